"""Where a network starts: every tensor but the head's, bit for bit; what does not fit, or cannot be had, is named."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs import models
from jobs.data import Digits, Synthetic
from jobs.models import CNN, Model, ResNet, Timm, Torchvision, finetune, stored
from jobs.models.files import unprefixed
from jobs.models.pretrained import materialize
from jobs.models.weights import FileWeights, StoredWeights
from jobs.outcome import keep_model
from jobs.paths import absolute
from jobs.randomness import seed_global
from jobs.spec import JobSpec
from tests.jobs.digits_job import job
from tests.jobs.pretrained import PREPROCESSING, kept, tuned

VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2}
EXAMPLES: list[tuple[Model, set[str]]] = [
    (CNN(width=4), {"11.weight", "11.bias"}),
    (ResNet(depth=8, width=4, variant="D"), {"classifier.weight", "classifier.bias"}),
    (Timm(name="resnet10t"), {"fc.weight", "fc.bias"}),
    (Timm(name="vit_tiny_patch16_224", kwargs=VIT), {"head.weight", "head.bias"}),
    (Torchvision(name="resnet18"), {"fc.weight", "fc.bias"}),
    (Torchvision(name="squeezenet1_1"), {"classifier.1.weight", "classifier.1.bias"}),
]


def build(model: Model, classes: int, seed: int) -> torch.nn.Module:
    seed_global("finetune", seed)
    return model.build(classes, 3)


@pytest.mark.parametrize(
    ("model", "names"), EXAMPLES, ids=lambda each: getattr(each, "name", getattr(each, "kind", ""))
)
@pytest.mark.parametrize("classes", [3, 5], ids=["other-number", "same-number"])
def test_the_head_is_fresh_and_every_other_tensor_the_weights(
    tmp_path: Path, model: Model, names: set[str], classes: int
) -> None:
    elsewhere = build(model, 5, 1)
    elsewhere.train()(torch.randn(4, 3, 32, 32))  # so that statistics are not the initial ones
    models.save(tmp_path, elsewhere, model.model_dump(mode="json"), list("abcde"), {**PREPROCESSING, "channels": 3})
    fresh, network = build(model, classes, 2).state_dict(), build(model, classes, 2)
    head = finetune.head(network, model, classes, 3)
    assert head == names
    before = torch.get_rng_state()
    digest = finetune.fill(network, head, model, str(tmp_path))
    assert torch.equal(before, torch.get_rng_state())
    assert len(digest) == 64
    given = elsewhere.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, (fresh if name in names else given)[name]), name
    assert any(not torch.equal(fresh[name], given[name]) for name in fresh.keys() - names)


def spoilt(tmp_path: Path, **changes: torch.Tensor | None) -> JobSpec:
    """A job that starts from a file of a ResNet-8's tensors, of which some are changed or left out."""
    tensors = dict(ResNet(depth=8, width=8).build(5, 1).state_dict())
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, tmp_path / "net.safetensors")
    source = {"kind": "file", "path": str(tmp_path / "net.safetensors")}
    return job(model={"kind": "resnet", "depth": 8, "width": 8, "pretrained": source}, data__channels=1)


def test_what_does_not_fit_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"do not fit the body of model resnet: blocks\.1\.branch\.0\.weight is missing"
    ):
        finetune.resolve(spoilt(tmp_path, blocks__1__branch__0__weight=None))
    with pytest.raises(ValueError, match=r"stray is one too many.*take other weights"):
        finetune.resolve(spoilt(tmp_path, stray=torch.ones(1)))
    with pytest.raises(ValueError, match=r"stem\.0\.weight has shape \(4, 3, 3, 3\) instead of \(8, 1, 3, 3\)"):
        finetune.resolve(spoilt(tmp_path, stem__0__weight=torch.ones(4, 3, 3, 3)))


def test_weights_without_a_head_or_counters_will_do(tmp_path: Path) -> None:
    counter = "stem__1__num_batches_tracked"
    spec = spoilt(tmp_path, classifier__weight=None, classifier__bias=None, **{counter: None})
    outcome = tuned(spec)
    assert outcome.test is not None


def test_another_variant_is_refused_though_its_tensors_fit(tmp_path: Path) -> None:
    model = {"kind": "resnet", "depth": 50, "width": 4, "variant": "A"}
    path = kept(tmp_path, job(model=model))
    pretrained = {"kind": "model", "path": path}
    with pytest.raises(ValueError, match=r"they are of variant A, and model\.variant is B, which computes otherwise"):
        finetune.resolve(job(model={**model, "variant": "B", "pretrained": pretrained}))
    assert finetune.resolve(job(model={**model, "pretrained": pretrained})).data.size == 8


def test_images_are_as_the_weights_want_them_unless_the_data_says_otherwise(tmp_path: Path) -> None:
    path = kept(tmp_path, job())
    start = {"model__pretrained": {"kind": "model", "path": path}}
    assert finetune.resolve(job()) == job()
    found = finetune.resolve(job(**start))
    assert (found.data.size, found.data.channels, found.data.mean, found.data.std) == (8, 1, (0.25,), (0.4,))
    assert found == finetune.resolve(found)
    assert found.data.open().mean == (0.25,)
    own = finetune.resolve(job(**start, data={"kind": "digits", "size": 12, "std": [0.5]})).data
    assert (own.size, own.mean, own.std) == (12, (0.25,), (0.5,))
    with pytest.raises(
        ValueError, match=r"take images of 1 channels, but data\.channels is 3; set data\.channels to 1"
    ):
        finetune.resolve(job(**start, data={"kind": "digits", "channels": 3}))
    made = finetune.resolve(job(**start, data=Synthetic(size=16, channels=1).model_dump(mode="json"))).data
    assert (made.size, made.channels) == (16, 1)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kind", ["timm", "torchvision"])
def test_a_file_for_a_library_s_network_is_used_as_the_library_says(tmp_path: Path, kind: str, suffix: str) -> None:
    model = Timm(name="resnet18.a1_in1k") if kind == "timm" else Torchvision(name="resnet18")
    tensors = build(model, 1000, 3).state_dict()
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": tensors}, file)
    else:
        save_file(tensors, file)
    spec = job(model={**model.model_dump(mode="json"), "pretrained": {"kind": "file", "path": str(file)}})
    found = finetune.resolve(spec)
    data = found.data
    assert (data.size, data.channels) == (224, 3)
    assert data.mean == pytest.approx((0.485, 0.456, 0.406)) and data.std == pytest.approx((0.229, 0.224, 0.225))
    assert isinstance(found.model.pretrained, StoredWeights)
    meta, kept_tensors = finetune.read(found.model.pretrained.path)
    assert meta["classes"][0] == "n01440764"  # ImageNet's
    assert all(torch.equal(kept_tensors[name], tensor) for name, tensor in tensors.items())
    assert materialize(FileWeights(path=str(file)), model) == found.model.pretrained.path
    sized = job(model={**model.model_dump(mode="json"), "pretrained": {"kind": "file", "path": str(file), "size": 64}})
    assert finetune.resolve(sized).data.size == 64


def test_files_that_are_not_there_or_not_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there are no weights at .*none\.pth; give a \.safetensors or \.pth file"):
        materialize(FileWeights(path=str(tmp_path / "none.pth")), CNN())
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="no weights that can be read safely"):
        materialize(FileWeights(path=str(tmp_path / "evil.pth")), CNN())
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no weights: a mapping of names to tensors was expected"):
        materialize(FileWeights(path=str(tmp_path / "list.pth")), CNN())


def library(kind: str, name: str, **more: Any) -> JobSpec:
    return job(model={"kind": kind, "name": name, "pretrained": {"kind": "library", **more}})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {"module." + name: tensor for name, tensor in tensors.items()},
        lambda tensors: {"state_dict": {"model." + name: tensor for name, tensor in tensors.items()}, "epoch": 3},
        lambda tensors: {"model": {"_orig_mod.module." + name: tensor for name, tensor in tensors.items()}},
        lambda tensors: {"model_state_dict": tensors},
        lambda tensors: {
            "model_ema": {
                "n_averaged": torch.tensor(3),
                **{f"module.{name}": tensor for name, tensor in tensors.items()},
            }
        },
    ],
    ids=["ddp", "lightning", "compiled", "model_state_dict", "averaged"],
)
def test_files_as_training_scripts_write_them(
    tmp_path: Path, wrap: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    model = Torchvision(name="resnet18")
    tensors = {name: tensor + 1 for name, tensor in model.build(5, 3).state_dict().items()}
    torch.save(wrap(tensors), tmp_path / "weights.pth")
    source = FileWeights(path=str(tmp_path / "weights.pth"))
    read = stored.read(materialize(source, model))[1]
    assert read.keys() == tensors.keys() and all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_a_prefix_that_the_network_has_itself_stays() -> None:
    tensors = {"model.a": torch.ones(1), "model.b": torch.ones(1)}
    assert unprefixed(tensors).keys() == {"a", "b"} and unprefixed(tensors, ["model."]) == tensors


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a pointer of Git LFS"),
        (
            {"epoch": 3, "net": {"a": torch.ones(1)}},
            "one in state_dict, model_state_dict, model, model_ema; it has epoch, net",
        ),
        (torch.nn.Linear(2, 2), "it needs Python objects beside tensors"),
    ],
    ids=["page", "pointer", "other", "pickle"],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_else_a_file_may_be_is_named_in_a_line(tmp_path: Path, content: object, said: str, suffix: str) -> None:
    file = tmp_path / f"weights.{suffix}"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file = file.with_suffix(".pth")
        torch.save(content, file)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        materialize(FileWeights(path=str(file)), Torchvision(name="resnet18"))
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and "weights_only" not in str(caught.value)


def test_the_very_model_is_not_the_cure_for_weights_that_do_not_fit(tmp_path: Path) -> None:
    model = Torchvision(name="resnet18")
    torch.save({f"net.{name}": tensor for name, tensor in model.build(5, 3).state_dict().items()}, tmp_path / "x.pth")
    spec = job(model={**model.model_dump(mode="json"), "pretrained": {"kind": "file", "path": str(tmp_path / "x.pth")}})
    with pytest.raises(ValueError, match=r"first of their tensors by name is net.bn1.bias; set model to"):
        finetune.resolve(spec)


def test_without_a_network_the_file_is_named_that_must_be_brought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that nobody runs stands for a machine without a network, also where there is one."""
    import huggingface_hub.constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    bring = r"Without a network, bring the file: fetch {} where there is one, and give its path \(model"
    url = bring.format(r"https://download\.pytorch\.org/models/resnet18-f37072fd\.pth")
    with pytest.raises(ValueError, match=rf"torchvision resnet18 cannot be fetched: .*{url}"):
        finetune.resolve(library("torchvision", "resnet18", weights="IMAGENET1K_V1"))
    url = bring.format(r"https://huggingface\.co/timm/resnet18\.a1_in1k/resolve/main/model\.safetensors")
    with pytest.raises(ValueError, match=rf"timm resnet18\.a1_in1k cannot be fetched: .*{url}"):
        finetune.resolve(library("timm", "resnet18.a1_in1k"))


def test_retries_without_a_network_are_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    printed: list[str] = []
    hub = logging.getLogger("huggingface_hub")
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: printed.append(record.getMessage()))
    monkeypatch.setattr(hub, "handlers", [handler])

    def create_model(*args: object, **kwargs: object) -> None:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", create_model)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"timm resnet18\.a1_in1k cannot be fetched: no network\. Without a network"):
        finetune.resolve(library("timm", "resnet18.a1_in1k"))
    assert printed == []
    hub.warning("other")
    assert printed == ["other"]


def test_names_that_no_library_has_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no weights 'V9' for resnet18; it has IMAGENET1K_V1, DEFAULT"):
        finetune.resolve(library("torchvision", "resnet18", weights="V9"))
    with pytest.raises(ValueError, match=r"timm nosuchnet cannot be fetched: Unknown model"):
        finetune.resolve(library("timm", "nosuchnet"))


def test_what_a_tuned_network_is_kept_as_says_nothing_of_where_it_came_from(tmp_path: Path) -> None:
    """So equal weights of an equal network have one name among teachers, and no path of this machine is shipped."""
    path = kept(tmp_path / "start", job())
    spec = job(model={"kind": "cnn", "width": 8, "pretrained": {"kind": "model", "path": path}, "freeze_epochs": 1})
    outcome = tuned(spec)
    keep_model(str(tmp_path / "end"), outcome, finetune.resolve(spec).data.open())
    loaded = models.load(tmp_path / "end")
    assert loaded.meta["model"] == job().model.model_dump(mode="json")
    assert (loaded.mean, loaded.std) == ((0.25,), (0.4,))
    assert load_file(tmp_path / "end" / "model.safetensors").keys() == loaded.network.state_dict().keys()


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ({"kind": "model", "path": "x"}, {"kind": "file", "path": "x"}):
        pretrained = absolute(job(model__pretrained=source)).model.pretrained
        assert isinstance(pretrained, StoredWeights | FileWeights) and pretrained.path == str(tmp_path / "x")
    remote = absolute(job(model__pretrained={"kind": "model", "path": "s3://a/b"})).model.pretrained
    assert isinstance(remote, StoredWeights) and remote.path == "s3://a/b"


def test_a_teacher_and_a_start_are_specified_alike() -> None:
    for source in ({"kind": "model", "path": "x"}, {"kind": "run", "run": "x"}):
        assert job(model__pretrained=source, distillation={"teacher": source}).data == Digits()
    with pytest.raises(ValueError, match=r"run 'x' is known to the orchestrator alone.*kind: model, path"):
        finetune.resolve(job(model__pretrained={"kind": "run", "run": "x"}))

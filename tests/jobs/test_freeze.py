"""A frozen body: what stands still and for how long, with every sort of optimizer, kills and workers."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from jobs import models, specfile
from jobs.__main__ import main
from jobs.checkpoint import State, Store
from jobs.models import finetune
from jobs.models.pretrained import materialize
from jobs.place import Place
from jobs.report import Keep
from jobs.run import Run
from jobs.spec import JobSpec
from jobs.train import train
from tests import world
from tests.jobs.digits_job import job
from tests.jobs.pretrained import kept, tuned

RESNET = {"kind": "resnet", "depth": 8, "width": 4, "variant": "D"}
HEAD = {"classifier.weight", "classifier.bias"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return kept(tmp_path_factory.mktemp("weights"), job(model=RESNET))


def frozen_job(folder: str, **changes: Any) -> JobSpec:
    model = {**RESNET, "pretrained": {"kind": "model", "path": folder}, "freeze_epochs": 2}
    return job(model=model, data={"kind": "digits", "mean": [0.3], "std": [0.3]}, **changes)


def moved(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


OPTIMIZERS: list[dict[str, Any]] = [
    {"kind": "sgd", "lr": 0.05, "weight_decay": 1e-2, "clip_norm": 1.0},
    {"kind": "adamw", "lr": 1e-3, "weight_decay": 1e-2, "layer_decay": 0.7},
    {"kind": "adaboundw", "lr": 1e-3, "weight_decay": 1e-2},
    {"kind": "timm", "name": "lamb", "lr": 1e-3, "weight_decay": 1e-2},
    {"kind": "torch", "name": "RMSprop", "lr": 1e-3, "weight_decay": 1e-2},
]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.get("name", optimizer["kind"]))
def test_the_body_stands_still_and_then_moves(folder: str, optimizer: dict[str, Any], precision: str) -> None:
    report = Keep()
    spec = frozen_job(folder, optimizer=optimizer, precision=precision, ema={"decay": 0.9}, schedule__warmup_epochs=0)
    tuned(spec, report)
    _, weights = finetune.read(folder)
    body = weights.keys() - HEAD
    held = {name: weights[name] for name in body}
    first, second, third = (state.tree for state in report.checkpoints)
    for tree in (first, second):
        assert not moved(held, tree["network"])
        assert not moved(held, tree["average"]["network"])
    assert moved(first["network"], second["network"]) == HEAD
    still = {name for name in body if name not in moved(held, third["network"])}
    assert not still, "it never thawed"


def test_dropout_of_a_frozen_body_goes_on_and_its_statistics_do_not() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.InstanceNorm2d(2), nn.LayerNorm(3))
    finetune.hold_statistics(network.train())
    assert [module.training for module in network] == [True, False, True, True, True]
    assert network.training


def weights_of(spec_json: str, store: str, keep: int | None) -> dict[str, Any]:
    """One rank's run from the newest checkpoint in ``store`` on, of which it keeps those up to update ``keep``."""
    spec = JobSpec.model_validate_json(spec_json)
    place = Place.current(use_gpu=False)
    checkpoints = Store(store, keep=100)
    start = place.broadcast(checkpoints.newest() if place.rank == 0 else None)
    if start is not None:  # whatever lies there now, it is read no more
        assert spec.model.pretrained is not None
        gone = spec.model.pretrained.model_copy(update={"path": "/nowhere"})
        spec = spec.model_copy(update={"model": spec.model.model_copy(update={"pretrained": gone})})
    report = Keep()
    outcome = tuned(spec, report, start, place)
    for state in report.checkpoints if place.rank == 0 else ():
        if keep is None or state.step <= keep:
            checkpoints.save(state)
            checkpoints.wait()
    losses = [record.value for record in report.records if record.name == "train/loss"]
    assert outcome.network is not None
    return {"weights": dict(outcome.network.state_dict()), "losses": losses}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_resumed_run_equals_one_that_was_never_stopped(folder: str, tmp_path: Path, ranks: int) -> None:
    """Killed in the second of two frozen epochs, at the very thaw, and after it."""
    spec = frozen_job(
        folder,
        batch_size=96,
        resources__workers=ranks,
        accumulation=2,
        ema={"decay": 0.9},
        checkpoint__every_steps=5,
        optimizer={"kind": "adamw", "lr": 1e-3, "weight_decay": 1e-2, "layer_decay": 0.7, "no_decay": ["bias"]},
    )
    an_epoch = spec.steps(len(spec.data.open().train)).per_epoch
    assert an_epoch == 13
    whole = world.run(ranks, weights_of, spec.model_dump_json(), str(tmp_path / "none"), -1)
    for at in (15, 26, 30):
        store = str(tmp_path / str(at))
        world.run(ranks, weights_of, spec.model_dump_json(), store, at)
        assert Store(store).steps()[-1] == at
        rest = world.run(ranks, weights_of, spec.model_dump_json(), store, -1)
        for mine, theirs in zip(whole, rest, strict=True):
            assert not moved(mine["weights"], theirs["weights"]), at
        assert whole[0]["losses"][-1] == rest[0]["losses"][-1]
    for other in whole[1:]:
        assert not moved({n: t for n, t in whole[0]["weights"].items() if "running" not in n}, other["weights"])


def test_two_workers_equal_one_with_two_parts(folder: str, tmp_path: Path) -> None:
    model = {"kind": "cnn", "width": 4, "norm": False}
    path = kept(tmp_path / "cnn", job(model=model))
    model |= {"pretrained": {"kind": "model", "path": path}, "freeze_epochs": 1}
    common: dict[str, Any] = {"model": model, "precision": "fp64", "optimizer__layer_decay": 0.5}
    one = world.run(1, weights_of, job(accumulation=2, **common).model_dump_json(), str(tmp_path / "one"), -1)[0]
    two = world.run(2, weights_of, job(resources__workers=2, **common).model_dump_json(), str(tmp_path / "two"), -1)
    assert not moved(two[0]["weights"], two[1]["weights"])
    for name, value in one["weights"].items():
        torch.testing.assert_close(two[0]["weights"][name], value, rtol=0, atol=1e-8)


def rewrapped(spec_json: str) -> dict[str, Any]:
    """How the network is wrapped before and after the thaw."""
    spec = finetune.resolve(JobSpec.model_validate_json(spec_json))
    data, place = spec.data.open(), Place.current(use_gpu=False)
    assert spec.model.pretrained is not None
    steps = spec.steps(len(data.train))
    run = Run(spec, data, place, steps, {"pretrained": materialize(spec.model.pretrained, spec.model)})
    run.settle((steps.part, 1, 8, 8))
    run.enter(0)
    first, wrapped = weakref.ref(run.trained), id(run.trained)
    before = sum(parameter.requires_grad for parameter in run.network.parameters())
    run.enter(1)
    same = id(run.trained) == wrapped
    gc.disable()  # it must not take the garbage collector to be rid of the first one's hooks
    run.enter(2)
    gone = first() is None
    gc.enable()
    after = sum(parameter.requires_grad for parameter in run.network.parameters())
    return {"before": before, "same": same, "gone": gone, "after": after}


def test_ddp_waits_for_no_gradient_that_never_comes(folder: str) -> None:
    for told in world.run(2, rewrapped, frozen_job(folder, resources__workers=2).model_dump_json()):
        assert told == {"before": 2, "same": True, "gone": True, "after": 29}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__freeze_epochs": 3}, r"freeze_epochs 3 must be less than epochs 3, or the body never learns"),
        ({"model__pretrained": None}, r"freeze_epochs 2 would hold a body that has learned nothing; set pretrained"),
        ({"model__zero_gamma": True}, r"zero_gamma true is for fresh networks: pretrained brings gammas of its own"),
        ({"model__pretrained": {"kind": "library"}}, r"no library has weights for kind resnet"),
        (
            {"model": {"kind": "timm", "name": "x", "pretrained": {"kind": "library", "weights": "V2"}}},
            r"pretrained\.weights 'V2' is torchvision's way",
        ),
        ({"optimizer__layer_decay": 0.0}, r"optimizer\.sgd\.layer_decay"),
        ({"optimizer__layer_decay": 1.5}, r"optimizer\.sgd\.layer_decay"),
    ],
)
def test_refused(folder: str, changes: dict[str, Any], message: str) -> None:
    spec = frozen_job(folder)
    with pytest.raises(ValidationError, match=message):
        spec.override({name.replace("__", "."): value for name, value in changes.items()})


def test_without_weights_there_is_no_start() -> None:
    """Whoever forgets to resolve is told so, and does not train afresh."""
    spec = job(model={**RESNET, "pretrained": {"kind": "model", "path": "/nowhere"}})
    with pytest.raises(KeyError, match="pretrained"):
        train(spec, Place(), Keep(), {"data": spec.data.open()})
    with pytest.raises(ValueError, match=r"there is no model in /nowhere; give a run's model folder, or a file"):
        tuned(spec)


def test_the_checkpoint_that_is_gone_on_from_is_all_there_is(folder: str) -> None:
    report = Keep()
    tuned(frozen_job(folder), report)
    start = report.checkpoints[0]
    assert isinstance(start, State)
    data = JobSpec.model_validate(start.tree["spec"]).data
    assert (data.mean, data.std) == ((0.3,), (0.3,))


def test_by_itself_it_goes_on_without_the_weights(tmp_path: Path) -> None:
    """``python -m jobs.train`` resolves them once; what they said of the images is in the checkpoint."""
    path = kept(tmp_path / "weights", job(model=RESNET))
    model = {**RESNET, "pretrained": {"kind": "model", "path": path}, "freeze_epochs": 1}
    (tmp_path / "x.yaml").write_text(specfile.dump(job(model=model)))
    arguments = [str(tmp_path / "x.yaml"), "-o", str(tmp_path / "out")]
    main(arguments)
    whole = models.load(tmp_path / "out" / "model")
    assert whole.mean == (0.25,)
    checkpoints = Store(str(tmp_path / "out" / "checkpoints"))
    newest = checkpoints.steps()[-1]
    shutil.rmtree(tmp_path / "out" / "checkpoints" / f"step_{newest:09d}")
    shutil.rmtree(tmp_path / "out" / "model")
    shutil.rmtree(path)
    main(arguments)
    again = models.load(tmp_path / "out" / "model")
    assert again.mean == (0.25,)
    assert not moved(whole.network.state_dict(), again.network.state_dict())

"""Models of torchvision and timm by name: what is refused, and how it is said."""

import subprocess
import sys

import pytest
import timm
import torch
from pydantic import ValidationError
from torchvision import models

from jobs.models import Timm, Torchvision
from jobs.models.library import Library
from jobs.randomness import seed_global


def test_same_network_as_the_library_builds() -> None:
    seed_global(1)
    ours = Torchvision(name="shufflenet_v2_x0_5").build(7, 3)
    seed_global(1)
    theirs = models.shufflenet_v2_x0_5(num_classes=7)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    seed_global(1)
    ours = Timm(name="resnet18", kwargs={"drop_rate": 0.25}).build(7, 1)
    seed_global(1)
    theirs = timm.create_model("resnet18", num_classes=7, in_chans=1, zero_init_last=False)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert (ours.drop_rate, theirs.drop_rate) == (0.25, 0.0)


@pytest.mark.parametrize(("kind", "near"), [(Torchvision, "resnet50"), (Timm, "resnet50")])
def test_unknown_name_suggests_the_nearest(kind: type[Library], near: str) -> None:
    spec = kind(name="resnet5O")  # parsing does not look it up
    with pytest.raises(ValueError, match=rf"{spec.kind} has no model 'resnet5O'; did you mean .*{near}\b"):
        spec.build(10, 3)


@pytest.mark.parametrize("name", ["hf_hub:timm/resnet18.a1_in1k", "local-dir:weights"])
def test_timm_never_goes_elsewhere_for_a_model(name: str) -> None:
    with pytest.raises(ValueError, match="timm has no model"):
        Timm(name=name).build(10, 3)


def test_parsing_imports_neither_torch_nor_the_libraries() -> None:
    code = (
        "import sys; from jobs.models import Timm, Torchvision; "
        "Timm(name='resnet18'); Torchvision(name='nothing', kwargs={'a': [1, {'b': None}]}); "
        "print([name for name in ('torch', 'torchvision', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", [Torchvision, Timm])
@pytest.mark.parametrize("name", ["weights", "pretrained"])
def test_pretrained_weights_are_refused(kind: type[Library], name: str) -> None:
    with pytest.raises(ValidationError, match=rf"{name} 'DEFAULT' cannot be given here: .*pretrained"):
        kind(name="resnet18", kwargs={name: "DEFAULT"})


@pytest.mark.parametrize(
    ("kind", "name", "cure"),
    [
        (Torchvision, "num_classes", "follows from the data"),
        (Torchvision, "aux_logits", "one tensor of logits"),
        (Timm, "num_classes", "follows from the data"),
        (Timm, "in_chans", "follows from the data"),
        (Timm, "features_only", "one tensor of logits"),
    ],
)
def test_kwargs_that_follow_from_elsewhere_are_refused(kind: type[Library], name: str, cure: str) -> None:
    with pytest.raises(ValidationError, match=rf"{name} 3 cannot be given here: .*{cure}"):
        kind(name="resnet18", kwargs={name: 3})


@pytest.mark.parametrize("kind", [Torchvision, Timm])
def test_wrong_kwargs_are_named(kind: type[Library]) -> None:
    with pytest.raises(ValueError, match=r"resnet18 refuses model.kwargs \(drop_wrath=0.1\): .*'drop_wrath'"):
        kind(name="resnet18", kwargs={"drop_wrath": 0.1}).build(10, 3)


def test_torchvision_takes_colour_only() -> None:
    with pytest.raises(ValueError, match=r"images of 3 channels, got 1; set data.channels to 3"):
        Torchvision(name="resnet18").build(10, 1)


@pytest.mark.parametrize(("name", "size"), [("googlenet", 64), ("inception_v3", 80)])
def test_networks_with_auxiliary_outputs_put_out_one_in_training(name: str, size: int) -> None:
    network = Torchvision(name=name, kwargs={"init_weights": False}).build(4, 3).train()
    with torch.no_grad():
        assert network(torch.randn(2, 3, size, size)).shape == (2, 4)

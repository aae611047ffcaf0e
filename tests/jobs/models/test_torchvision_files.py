"""Files of weights as torchvision publishes them, whose names and preprocessing are not always its networks' own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torchvision import models

from jobs.models import Torchvision
from jobs.models.pretrained import keep_pretrained, materialize
from jobs.models.stored import load, read
from jobs.models.torchvision import renamed
from jobs.models.weights import FileWeights

IMAGENET = torch.tensor((0.485, 0.456, 0.406))[:, None, None], torch.tensor((0.229, 0.224, 0.225))[:, None, None]


def published(name: str) -> dict[str, torch.Tensor]:
    """Fresh tensors by the names of the published files: torchvision's loaders turn them into the network's."""
    given = {"init_weights": False} if name == "googlenet" else {}
    theirs = models.get_model(name, weights=None, **given).state_dict()
    old = {
        "densenet121": lambda text: re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", text),
        "vit_b_16": lambda text: text.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."),
    }
    return {old.get(name, str)(text): tensor for text, tensor in theirs.items()}


def test_a_vit_is_renamed() -> None:
    with torch.device("meta"):  # 86 million parameters
        mine = Torchvision(name="vit_b_16").build(1000, 3).state_dict()
        theirs = published("vit_b_16")
    assert set(mine) != set(theirs) and set(mine) == {renamed(text) for text in theirs}


@pytest.mark.parametrize("name", ["densenet121", "googlenet"])
def test_they_fit_the_network(tmp_path: Path, name: str) -> None:
    tensors = published(name)
    torch.save(tensors, tmp_path / "weights.pth")
    wanted = Torchvision(name=name, kwargs={"init_weights": False} if name == "googlenet" else {})
    network = wanted.build(1000, 3)
    assert any(text not in network.state_dict() for text in tensors), "else this shows nothing"
    teacher = keep_pretrained(wanted, None, str(tmp_path / "weights.pth"), None, None, 1000)
    start = materialize(FileWeights(path=str(tmp_path / "weights.pth")), wanted)
    mine, body = load(teacher).network.state_dict(), read(start)[1]
    assert all(text in body for text in mine)
    stored = {value.data_ptr(): value for value in tensors.values()}.values()
    assert {float(v.double().sum()) for v in mine.values()} <= {float(v.double().sum()) for v in stored}


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_what_torchvision_converts_in_the_network_we_convert_before(tmp_path: Path, name: str) -> None:
    theirs = models.get_model(name, weights=None, transform_input=True, init_weights=False).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    wanted = Torchvision(name=name, kwargs={"init_weights": False})
    folder = keep_pretrained(wanted, None, str(tmp_path / "weights.pth"), None, None, 1000)
    ours = load(folder)
    pixels = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        expected = theirs((pixels - IMAGENET[0]) / IMAGENET[1])
        found = ours.network((pixels - torch.tensor(ours.mean)[:, None, None]) / torch.tensor(ours.std)[:, None, None])
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    start = materialize(FileWeights(path=str(tmp_path / "weights.pth")), wanted)
    assert read(start)[0]["preprocessing"]["mean"] == read(start)[0]["preprocessing"]["std"] == [0.5] * 3

"""Exported models: what they take, what they hold, and that nothing wrong is left behind."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from jobs.models import ResNet, load
from jobs.models.export import FILES, Format, ParityError, export
from tests.jobs.models.tiny import CLASSES, tiny


def images(count: int, channels: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, 16, 16, channels), dtype=np.uint8)


def run(folder: Path, to: Format, x: np.ndarray) -> np.ndarray:
    if to == "onnx":
        return onnxruntime.InferenceSession(folder / FILES[to]).run(None, {"images": x})[0]
    if to == "torch-export":
        return torch.export.load(folder / FILES[to]).module()(torch.from_numpy(x)).detach().numpy()
    return load(folder).logits(torch.from_numpy(x)).detach().numpy()


@pytest.mark.parametrize("to", list(FILES))
def test_raw_images_in_logits_out_for_any_batch(tmp_path: Path, to: Format) -> None:
    model = tiny(tmp_path / "model", flip=True)
    difference, limit = export(tmp_path / "model", tmp_path / "new" / to, to)
    assert difference <= limit
    for count in (1, 2, 9):
        x = images(count, 3)
        probabilities = torch.from_numpy(run(tmp_path / "new" / to, to, x)).softmax(1)
        np.testing.assert_allclose(probabilities, model.predict(x), atol=1e-5)
    told = json.loads((tmp_path / "new" / to / "model.json").read_text())
    assert told["classes"] == list(CLASSES)
    assert told["preprocessing"]["size"] == 16


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_grey_residual_networks_in_double_precision_become_float32(tmp_path: Path, to: Format) -> None:
    model = tiny(tmp_path / "model", 1, model=ResNet(depth=8, width=4), dtype=torch.float64)
    export(tmp_path / "model", tmp_path / to, to)
    logits = run(tmp_path / to, to, images(4, 1))
    assert logits.dtype == np.float32
    wanted = model.logits(torch.from_numpy(images(4, 1))).detach().numpy()
    np.testing.assert_allclose(logits, wanted, atol=1e-3)


def test_torch_export_holds_no_pickle(tmp_path: Path) -> None:
    tiny(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "out", "torch-export")
    with zipfile.ZipFile(tmp_path / "out" / "model.pt2") as archive:
        assert any("weights" in name for name in archive.namelist())
        assert not [name for name in archive.namelist() if b"\x80\x02" in archive.read(name)[:2] or ".pkl" in name]
        assert not [name for name in archive.namelist() if name.endswith(".pt") and archive.read(name)]


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_an_export_that_computes_something_else_is_deleted(
    tmp_path: Path, to: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph without the normalisation is what the check is for."""
    tiny(tmp_path / "model")

    def forward(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.permute(0, 3, 1, 2).float() / 255)

    monkeypatch.setattr("jobs.models.export.Graph.forward", forward)
    with pytest.raises(ParityError, match=r"differ from the model's by [\d.e+]+; up to [\d.e-]+ is tolerated"):
        export(tmp_path / "model", tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    tiny(tmp_path / "model")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="out is there already and holds something"):
        export(tmp_path / "model", tmp_path / "out", "safetensors")
    assert (tmp_path / "out" / "thesis.tex").exists()

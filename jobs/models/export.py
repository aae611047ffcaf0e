"""A stored model as one file for other programs, checked against the model that it was made of.

The graph takes uint8 images and does everything but decoding and resizing, which ``model.json`` beside it tells.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jobs.models.logits import averaged
from jobs.models.stored import LoadedModel, load

if TYPE_CHECKING:
    from jobs.data.decode import Pixels

Format = Literal["onnx", "torch-export", "safetensors"]
FILES: dict[Format, str] = {"onnx": "model.onnx", "torch-export": "model.pt2", "safetensors": "model.safetensors"}
TOLERANCE = 1e-4
"""Largest difference between logits that passes, over the largest logit (or 1, where that is larger)."""
_CHECKED = (1, 5)
"""Images in the batches that are compared; neither is the number that the graph is traced with."""


class ParityError(RuntimeError):
    """What was exported does not compute what the model computes."""


class Graph(nn.Module):
    """uint8 images ``(N, size, size, channels)`` to float32 logits ``(N, K)``, normalisation included."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.network = copy.deepcopy(model.network).float()
        mean, std = (torch.tensor(each).view(1, -1, 1, 1) * 255 for each in (model.mean, model.std))
        self.register_buffer("shift", mean)
        self.register_buffer("scale", 1 / std)
        self.flip = model.flip
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = images.permute(0, 3, 1, 2).to(torch.float32).contiguous()
        x = (x - self.shift) * self.scale
        return averaged(self.network, x, self.flip)


def export(source: str | os.PathLike[str], target: Path, to: Format) -> tuple[float, float]:
    """Export the model in the folder ``source`` to the folder ``target``, and compare the two.

    Args:
        source: as ``jobs.models.load`` reads it.
        target: the new folder: the file (see ``FILES``) and ``model.json``.
        to: what to make of it.

    Returns:
        the largest absolute difference between their logits, and how large it might have been.

    Raises:
        ValueError: there is something in the target, or what the format needs is not installed.
        ParityError: they differ by more; the target is gone then, as after every other error.
    """
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is there already and holds something; remove it, or name another folder")
    model = load(source)
    target.mkdir(parents=True, exist_ok=True)
    try:
        if to == "safetensors":
            for name in ("model.safetensors", "model.json"):
                shutil.copyfile(Path(source) / name, target / name)
            copied = load(target)
            return _compare(model, lambda images: copied.logits(torch.from_numpy(images)).numpy(), 0.0)
        graph = Graph(model)
        run = (_onnx if to == "onnx" else _torch_export)(graph, target / FILES[to], _images(model, 3))
        (target / "model.json").write_text(json.dumps(_told(model, to), indent=2), encoding="utf-8")
        return _compare(model, run, TOLERANCE)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _onnx(graph: Graph, path: Path, images: Pixels) -> Callable[[Pixels], NDArray[np.float32]]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise ValueError(
            f"ONNX needs {error.name}, which is not installed: pip install 'image-classification-orchestrator[export]'"
        ) from None
    torch.onnx.export(
        graph,
        (torch.from_numpy(images),),
        path,
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


def _torch_export(graph: Graph, path: Path, images: Pixels) -> Callable[[Pixels], NDArray[np.float32]]:
    shapes = {"images": {0: torch.export.Dim("batch")}}
    program = torch.export.export(graph, (torch.from_numpy(images),), dynamic_shapes=shapes)
    program.example_inputs = None  # the one thing that would be pickled
    torch.export.save(program, path)
    read = torch.export.load(path).module()
    return lambda images: read(torch.from_numpy(images)).numpy()


@torch.no_grad()
def _compare(model: LoadedModel, run: Callable[[Pixels], NDArray[np.float32]], tolerance: float) -> tuple[float, float]:
    """The largest difference over a few random images, and the largest that passes."""
    wanted = [model.logits(torch.from_numpy(_images(model, count))).numpy() for count in _CHECKED]
    found = [run(_images(model, count)) for count in _CHECKED]
    limit = tolerance * max(1.0, *(float(np.abs(logits).max()) for logits in wanted))
    worst = max(float(np.abs(one - other).max()) for one, other in zip(wanted, found, strict=True))
    if not worst <= limit:  # NaN does not pass
        raise ParityError(
            f"logits of the export differ from the model's by {worst:.3g}; up to {limit:.3g} is tolerated"
        )
    return worst, limit


def _images(model: LoadedModel, count: int) -> Pixels:
    """Random images: even ones noise, odd ones smooth."""
    draw = np.random.default_rng(count)
    noise = draw.integers(0, 256, (count, model.size, model.size, model.channels), dtype=np.uint8)
    noise[1::2] = np.linspace(noise[1::2, :1, :1], noise[1::2, -1:, -1:], model.size, axis=1)[..., 0, 0, :][:, :, None]
    return noise


def _told(model: LoadedModel, to: Format) -> dict[str, Any]:
    size, channels = model.size, model.channels
    return {
        "file": FILES[to],
        "classes": list(model.classes),
        "input": {
            "name": "images",
            "dtype": "uint8",
            "shape": ["batch", size, size, channels],
            "values": f"0 .. 255, {'RGB' if channels == 3 else 'grey'}; the graph normalises, so nobody else may",
        },
        "output": {"name": "logits", "dtype": "float32", "shape": ["batch", len(model.classes)], "then": "softmax"},
        "preprocessing": {
            "decode": "first frame; transparency over white; EXIF orientation "
            f"{'' if model.exif_orientation else 'not '}applied; CMYK and the like to RGB",
            "crop": f"central square of {model.crop_ratio:g} x the shorter side, rounded",
            "resize": f"to {size} x {size}, bicubic with antialiasing (torchvision's resize with antialias=True)",
            "size": size,
            "channels": channels,
            "crop_ratio": model.crop_ratio,
        },
        "in the graph": {"mean": list(model.mean), "std": list(model.std), "flip": model.flip},
        "made of": {"model": model.meta["model"], "sha256": model.meta["sha256"]},
    }

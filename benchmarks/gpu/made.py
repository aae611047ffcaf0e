"""Specs, images, teachers and runs that the stages share; ``jobs`` alone."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs import precision
from jobs.checkpoint import State
from jobs.data.sets import Arrays, Data
from jobs.models import save
from jobs.outcome import Outcome
from jobs.place import Place
from jobs.report import Keep
from jobs.spec import JobSpec
from jobs.train import train

BASE: dict[str, Any] = {
    "name": "gpu",
    "data": {"kind": "synthetic"},
    "model": {"kind": "resnet", "depth": 8},
    "augment": [{"kind": "crop"}, {"kind": "flip"}],
    "optimizer": {"kind": "sgd", "lr": 0.05, "weight_decay": 5e-4},
    "schedule": {"decay": {"kind": "cosine"}},
    "epochs": 2,
    "batch_size": 64,
}


def job(**changes: Any) -> JobSpec:
    """A small job; in names ``__`` is a dot."""
    return JobSpec.model_validate(BASE).override({name.replace("__", "."): value for name, value in changes.items()})


def place(device: str) -> Place:
    """This process on that device."""
    return Place.current(device == "cuda")


def images(count: int, size: int = 32, classes: int = 10, held: int = 256, channels: int = 3) -> Data:
    """Images that a network can tell apart: a pattern for each class, and noise; the number to train on is given."""
    source = np.random.default_rng(0)
    cells = source.integers(64, 192, (classes, 4, 4, channels), dtype=np.uint8)
    labels = np.arange(count + 2 * held, dtype=np.int64) % classes
    where = np.arange(size) * 4 // size
    pixels = cells[labels][:, where][:, :, where]
    pixels += source.integers(0, 64, pixels.shape, dtype=np.uint8)
    parts = np.split(np.arange(len(labels)), [count, count + held])
    train_, val, test = (Arrays(pixels[part], labels[part]) for part in parts)
    names = tuple(f"class {label}" for label in range(classes))
    middle, spread = (0.5,) * channels, (0.25,) * channels
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return Data(names, channels, size, middle, spread, digest, train_, val, test, size)


def teacher(folder: Path, data: Data, model: Mapping[str, Any] | None = None) -> str:
    """The folder of a network that has learned nothing, which costs what any teacher costs."""
    spec = job(model=dict(model or {"kind": "resnet", "depth": 8})).model
    torch.manual_seed(1)
    told = {"size": data.size, "channels": data.channels, "mean": data.mean, "std": data.std}
    save(str(folder), spec.build(len(data.classes), data.channels), spec.model_dump(mode="json"), data.classes, told)
    return str(folder)


class Run:
    """A run that was made: what it reported, its weights, and how long its epochs took."""

    def __init__(
        self,
        spec: JobSpec,
        data: Data,
        device: str,
        assets: Mapping[str, Any] | None = None,
        start: State | None = None,
    ) -> None:
        self.keep = Keep()
        began = time.perf_counter()
        self.outcome: Outcome = train(spec, place(device), self.keep, {"data": data, **(assets or {})}, start)
        self.seconds = time.perf_counter() - began

    def values(self, name: str) -> list[float]:
        """A metric's values by epoch."""
        return list(self.keep.series(name).values())

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """On the CPU."""
        assert self.outcome.network is not None
        return {name: value.detach().cpu() for name, value in self.outcome.network.state_dict().items()}

    @property
    def digest(self) -> str:
        """Of the weights."""
        digest = hashlib.sha256()
        for name, value in self.weights.items():
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def far(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """``||found - wanted|| / ||wanted||`` in float64; NaN where one of them has it."""
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    norm = float(wanted.norm())
    return float((found - wanted).norm()) / norm if norm else float((found - wanted).norm())


def apart(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """The same of two networks' floating-point tensors, taken as one vector."""
    names = [name for name, value in other.items() if value.is_floating_point()]
    first, second = (torch.cat([each[name].flatten().double() for name in names]) for each in (one, other))
    return far(first, second)


def synchronize(device: str) -> None:
    """Wait for all that was asked of the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def spread(values: Sequence[float], digits: int = 4) -> list[float]:
    """Median, smallest and largest."""
    return [float(f"{value:.{digits}g}") for value in (statistics.median(values), min(values), max(values))]


def exactly() -> None:
    """Take TF32 out of convolutions, where torch has it by default, so that float32 is float32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def resolved(spec: JobSpec, device: str) -> JobSpec:
    """With what ``auto`` is there."""
    return precision.resolve(spec, torch.device(device))


def written(path: Path, spec: JobSpec) -> Path:
    """A spec in a file that ``specfile`` reads."""
    path.write_text(json.dumps(spec.model_dump(mode="json")), encoding="utf-8")
    return path

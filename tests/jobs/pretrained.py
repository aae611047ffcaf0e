"""Small trained networks to start from, and runs that do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from jobs.checkpoint import State
from jobs.models import finetune, save
from jobs.models.pretrained import materialize
from jobs.outcome import Outcome
from jobs.place import Place
from jobs.randomness import seed_global
from jobs.report import Keep, Report
from jobs.spec import JobSpec
from jobs.train import train

PREPROCESSING = {"size": 8, "channels": 1, "mean": (0.25,), "std": (0.4,)}


def kept(folder: Path, spec: JobSpec, classes: int = 4) -> str:
    """A folder with the network of ``spec`` for 8x8 grey images of ``classes`` classes, no tensor a fresh one's."""
    seed_global("elsewhere")
    network = spec.model.build(classes, 1)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
        else:
            tensor.fill_(7)
    save(folder, network, spec.model.model_dump(mode="json"), [f"other {k}" for k in range(classes)], PREPROCESSING)
    return str(folder)


def tuned(
    spec: JobSpec, report: Report | None = None, start: State | None = None, place: Place | None = None
) -> Outcome:
    """Resolve and train, as whoever runs a job does."""
    spec = finetune.resolve(spec) if start is None else spec
    assets: dict[str, Any] = {"data": spec.data.open()}
    if start is None and spec.model.pretrained is not None:
        assets["pretrained"] = materialize(spec.model.pretrained, spec.model)
    return train(spec, place or Place(), report or Keep(), assets, start)

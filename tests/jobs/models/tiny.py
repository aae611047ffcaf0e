"""Small stored models, made rather than trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from jobs.models import CNN, LoadedModel, Model, load, save
from jobs.randomness import seed_global

CLASSES = ("cat", "dog", "owl")


def tiny(
    folder: Path,
    channels: int = 3,
    size: int = 16,
    classes: Sequence[str] = CLASSES,
    model: Model | None = None,
    dtype: torch.dtype = torch.float32,
    **more: Any,
) -> LoadedModel:
    """A network that tells blobs of noise apart, stored in ``folder``; ``more`` is preprocessing."""
    spec = model or CNN(width=4)
    seed_global("tiny", channels)
    network = spec.build(len(classes), channels).to(dtype)
    coarse = torch.rand(64, channels, 4, 4, dtype=dtype).sub(0.5).div(0.25)
    blobs = coarse.repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)
    with torch.no_grad():
        for _ in range(30):
            network(blobs)
        head = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
        logits = network.eval()(blobs)
        head.bias.sub_(logits.mean(0))
        head.weight.mul_(2 / logits.std(0)[:, None])
        head.bias.mul_(2 / logits.std(0))
    told = {"size": size, "channels": channels, "mean": (0.5,) * channels, "std": (0.25,) * channels, **more}
    save(folder, network, spec.model_dump(mode="json"), classes, told)
    return load(folder)

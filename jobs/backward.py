"""A part of an update: batch tricks, forward pass, loss, backward pass; what the loop and the speed probe repeat."""

from __future__ import annotations

import torch

from jobs.batch import At, acting
from jobs.randomness import seed_global
from jobs.run import Run


def backward(run: Run, part: int, x: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """The forward and backward pass of a part of the update under way.

    Args:
        run: its network's gradients are added to.
        part: which of the update's parts.
        x: images ``(N, C, H, W)``.
        labels: int64 ``(N,)``.
        classes: K.

    Returns:
        the terms of the objective, the part's share of the update's mean; detached.
    """
    spec, at = run.spec, At(run.step // run.steps.per_epoch, run.step, part, run.spec.epochs, run.steps.total)
    seed_global(spec.seed.data, "model", run.step, part, device=run.place.device)
    y = one_hot(labels, classes, x.dtype)
    for trick in acting(spec.batch, spec.seed.data, at):
        x, y = trick(x, y, trick.source(spec.seed.data, at), at)
    return run.backward(x, y, at)


def one_hot(labels: torch.Tensor, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """Soft targets ``(N, classes)`` of int64 labels ``(N,)``; unlike torch's own, it never waits for the device."""
    return torch.zeros(len(labels), classes, dtype=dtype, device=labels.device).scatter_(1, labels[:, None], 1)

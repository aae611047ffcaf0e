"""The gradients of an update: batch tricks, forward and backward passes; what the loop and the speed probe repeat."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from jobs.batch import At, acting
from jobs.randomness import seed_global
from jobs.run import Run
from jobs.sam import Part, ascend


def gradients(run: Run, parts: Iterable[tuple[int, torch.Tensor, torch.Tensor]], classes: int) -> torch.Tensor:
    """Compute this rank's gradients of the update under way.

    Args:
        run: its network's gradients are added to.
        parts: for each part of the update that is this rank's: its number, images ``(N, C, H, W)``, and int64 labels
            ``(N,)``.
        classes: K.

    Returns:
        float64: the terms of the objective, a mean over this rank's images; on the device, detached.
    """
    spec, epoch = run.spec, run.step // run.steps.per_epoch
    terms: torch.Tensor | float = 0.0
    again: list[Part] = []
    for part, x, labels in parts:
        at = At(epoch, run.step, part, spec.epochs, run.steps.total)
        seed_global(spec.seed.data, "model", run.step, part, device=run.place.device)
        y = one_hot(labels, classes, x.dtype)
        for trick in acting(spec.batch, spec.seed.data, at):
            x, y = trick(x, y, trick.source(spec.seed.data, at), at)
        terms = terms + run.backward(x, y, at).double()
        if spec.sam is not None:
            again.append((x, y, at))
    if again:
        ascend(run, again)
    assert isinstance(terms, torch.Tensor)
    return terms


def one_hot(labels: torch.Tensor, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """Soft targets ``(N, classes)`` of int64 labels ``(N,)``; unlike torch's own, it never waits for the device."""
    return torch.zeros(len(labels), classes, dtype=dtype, device=labels.device).scatter_(1, labels[:, None], 1)

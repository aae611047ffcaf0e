"""Which of a spec's tricks act on a batch: all that do not mix, and at most one that does, by its share."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.batch.trick import At, BatchTrick, Mixing
from jobs.randomness import generator

_ROUNDING = 1e-9
"""By how much shares may sum above 1, since decimal fractions are rounded to binary ones."""


def acting(tricks: Sequence[BatchTrick], seed: int, at: At) -> Sequence[BatchTrick]:
    """The tricks that act on the batch at a place of the run, in order.

    The lot comes from a generator of its own. Nothing is drawn where there is nothing to choose: no mixing trick, or
    one that gets every batch.
    """
    if all(trick.share == 1 for trick in tricks if isinstance(trick, Mixing)):
        return tricks
    import torch

    source = generator(seed, "turn", at.step, at.part)
    return turn(tricks, torch.rand((), generator=source, dtype=torch.float64).item())


def turn(tricks: Sequence[BatchTrick], lot: float) -> list[BatchTrick]:
    """Every trick that does not mix, and the mixing one whose interval of the cumulative shares contains ``lot``.

    Args:
        tricks: in the order in which they act; their shares sum to at most 1.
        lot: in [0, 1); above the sum of the shares nothing mixes.
    """
    chosen, upper = [], 0.0
    for trick in tricks:
        if isinstance(trick, Mixing):
            lower, upper = upper, upper + trick.share
            if not lower <= lot < upper:
                continue
        chosen.append(trick)
    return chosen


def fit_shares(tricks: tuple[BatchTrick, ...]) -> tuple[BatchTrick, ...]:
    """The tricks themselves.

    Raises:
        ValueError: the shares of the mixing ones sum to more than 1.
    """
    mixing = [trick for trick in tricks if isinstance(trick, Mixing)]
    total = sum(trick.share for trick in mixing)
    if total > 1 + _ROUNDING:
        terms = " + ".join(f"batch.{trick.kind}.share {trick.share:.10g}" for trick in mixing)
        *most, last = [f"{1 / len(mixing):.2g}"] * len(mixing)
        raise ValueError(
            f"{terms} = {total:.10g} is more than 1: say which share of the batches each gets, "
            f"e.g. {', '.join(most)} and {last}"
        )
    return tricks

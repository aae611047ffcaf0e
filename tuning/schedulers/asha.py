"""ASHA, asynchronous successive halving (Li et al., arXiv 1810.05934).

Rung k is at epoch ``grace * eta^k``. Of the n trials that have a value at a rung, the best ``n / eta`` continue.

Departure: Algorithm 2 of the paper pauses a trial at its rung and promotes it once it is among the best. Here, as in
other libraries, a trial is judged once, when it gets to the rung, so it needs no room while it waits: it continues if
it is among the best ``max(1, floor(n / eta))`` of those that are there by then, itself among them. So the first one
always continues, unless its value is NaN.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, PositiveInt

from tuning.schedulers.scheduler import Policy, Scheduler
from tuning.spec.objective import Mode


class AshaScheduler(Scheduler):
    """Keeps the values at each rung; see :class:`Scheduler` for ``mode`` and ``epochs``.

    Args:
        spec: settings.
    """

    def __init__(self, spec: Asha, mode: Mode, epochs: int | None = None) -> None:
        super().__init__(mode, epochs)
        self.spec = spec
        self._values: dict[int, list[float]] = {}
        self._reached: dict[int, int] = {}

    def rung(self, ordinal: int) -> int | None:
        """The last rung that a trial reached."""
        return self._reached.get(ordinal)

    def _judge(self, ordinal: int, epoch: int, value: float) -> bool:
        rung = len(self.spec.rungs(min(epoch + 1, self.epochs))) - 1
        if rung <= self._reached.get(ordinal, -1):
            return False
        self._reached[ordinal] = rung
        values = self._values.setdefault(rung, [])
        values.append(value)
        best = sorted(values, reverse=True)[: max(1, len(values) // self.spec.reduction_factor)]
        return value == -math.inf or value < best[-1]


class Asha(Policy):
    """At rungs of growing length, stop all but the best."""

    kind: Literal["asha"] = "asha"
    grace_epochs: PositiveInt = 1
    """Epochs that every trial gets: the first rung."""
    reduction_factor: int = Field(3, ge=2)
    """eta: one trial in eta continues from a rung, and the next rung is eta times as far."""

    def build(self, mode: Mode, epochs: int | None = None) -> Scheduler:
        """The scheduler."""
        return AshaScheduler(self, mode, epochs)

    def rungs(self, epochs: float) -> tuple[int, ...]:
        """The epochs of the rungs, all before the last epoch."""
        found, rung = [], self.grace_epochs
        while rung < epochs:
            found.append(rung)
            rung *= self.reduction_factor
        return tuple(found)

    def stages(self, trials: float, epochs: int) -> list[tuple[float, int]]:
        """One trial in ``reduction_factor`` resumes from each rung, and never fewer than one."""
        left, before, found = trials, 0, []
        for rung in (*self.rungs(epochs), epochs):
            found.append((left, rung - before))
            left, before = max(1.0, left / self.reduction_factor), rung
        return found

    def flaw(self, epochs: int) -> str:
        """Whether no trial would ever be stopped."""
        if self.grace_epochs < epochs:
            return ""
        return (
            f"grace_epochs {self.grace_epochs} must be less than the {epochs} epochs of a trial, or nothing is stopped"
        )

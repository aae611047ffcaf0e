"""Median stopping (Golovin et al., Google Vizier, KDD 2017, section 3.2.2): at epoch s, stop a trial whose best value
so far is worse than the median of the others' running averages up to s.

Departure: the paper takes the averages of completed trials; here those of all other trials that have got as far as s,
so that it acts before the first ones are complete.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Literal

from pydantic import Field, PositiveInt

from tuning.schedulers.scheduler import Policy, Scheduler
from tuning.spec.objective import Mode


class MedianScheduler(Scheduler):
    """Keeps all values; see :class:`Scheduler` for ``mode`` and ``epochs``.

    Args:
        spec: settings.
    """

    def __init__(self, spec: Median, mode: Mode, epochs: int | None = None) -> None:
        super().__init__(mode, epochs)
        self.spec = spec
        self._values: dict[int, dict[int, float]] = {}

    def _judge(self, ordinal: int, epoch: int, value: float) -> bool:
        own = self._values.setdefault(ordinal, {})
        own[epoch] = value
        if epoch < self.spec.grace_epochs:
            return False
        if value == -math.inf:
            return True
        averages = [
            sum(past) / len(past)
            for other, values in self._values.items()
            if other != ordinal and max(values) >= epoch and (past := [v for at, v in values.items() if at <= epoch])
        ]
        return len(averages) >= self.spec.min_trials and max(own.values()) < median(averages)


class Median(Policy):
    """Stop trials that are worse than half of the others."""

    kind: Literal["median"] = "median"
    grace_epochs: PositiveInt = 1
    """Epochs before which no trial is stopped."""
    min_trials: int = Field(3, ge=1)
    """Other trials that must have reached the same epoch before one is stopped."""

    def build(self, mode: Mode, epochs: int | None = None) -> Scheduler:
        """The scheduler."""
        return MedianScheduler(self, mode, epochs)

    def flaw(self, epochs: int) -> str:
        """Whether no trial would ever be stopped."""
        if self.grace_epochs < epochs:
            return ""
        return (
            f"grace_epochs {self.grace_epochs} must be less than the {epochs} epochs of a trial, or nothing is stopped"
        )

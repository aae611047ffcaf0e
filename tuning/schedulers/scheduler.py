"""What a way to end trials early is: a spec that builds a scheduler, which hears every value and says stop or not."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from jobs.base import Spec
from tuning.spec.objective import Mode


class Scheduler(ABC):
    """Hears the values of trials; its answers are a function of the reports so far alone.

    A trial that goes on from a checkpoint reports epochs again: the first report of an epoch counts, and the answer to
    it is given again. Inside, more is better, and NaN is the worst value there is.

    Args:
        mode: whether more is better, or less.
        epochs: of a trial; a trial that has them all is at its end and is not stopped.
    """

    def __init__(self, mode: Mode, epochs: int | None = None) -> None:
        self.sign = 1.0 if mode == "max" else -1.0
        self.epochs: float = math.inf if epochs is None else epochs
        self._answers: dict[tuple[int, int], bool] = {}

    def report(self, ordinal: int, epoch: int, value: float) -> bool:
        """Whether to stop the trial now.

        Args:
            ordinal: of the trial.
            epoch: that it has finished, from 1.
            value: of the metric there.
        """
        place = (ordinal, epoch)
        if place not in self._answers:
            stop = self._judge(ordinal, epoch, -math.inf if math.isnan(value) else self.sign * value)
            self._answers[place] = stop and epoch < self.epochs
        return self._answers[place]

    def rung(self, ordinal: int) -> int | None:
        """The last rung that a trial reached, from 0; None before the first, and where there are no rungs."""
        return None

    @abstractmethod
    def _judge(self, ordinal: int, epoch: int, value: float) -> bool:
        """Whether to stop a trial for a value, of which more is better."""


class Policy(Spec):
    """A way to end trials early."""

    kind: str
    """Its name in a spec."""

    @abstractmethod
    def build(self, mode: Mode, epochs: int | None = None) -> Scheduler:
        """The scheduler; for the arguments see :class:`Scheduler`."""

    def rungs(self, epochs: float) -> tuple[int, ...]:
        """The epochs at whose end trials of so many epochs are judged against each other, where they are few."""
        return ()

    def flaw(self, epochs: int) -> str:
        """What is wrong with it for trials of so many epochs; empty if nothing is."""
        return ""

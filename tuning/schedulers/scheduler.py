"""The interface of early stopping: a spec that builds a scheduler, which sees every value and stops a trial or not."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from jobs.base import Spec
from jobs.spec import Checkpoints, JobSpec
from tuning.searchers import Method
from tuning.spec.objective import Mode
from tuning.spec.space import Space


class Scheduler(ABC):
    """Receives the values of trials; its answers are a function of the reports so far alone.

    A trial that is resumed from a checkpoint reports epochs again: the first report of an epoch counts, and the answer
    to it is given again. Inside, more is better, and NaN is the worst value there is.

    Args: mode: whether more is better, or less. epochs: of a trial; a trial that has them all is at its end and is not
    stopped.
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
    """A way to end trials early.

    Attributes:
        by_metric: whether it judges trials by one metric.
        hands_over: whether trials pause for each other and resume from each other's checkpoints.
    """

    by_metric: ClassVar[bool] = True
    hands_over: ClassVar[bool] = False
    kind: str
    """Its name in a spec."""

    @abstractmethod
    def build(self, mode: Mode, epochs: int | None = None) -> Scheduler:
        """The scheduler; for the arguments see :class:`Scheduler`."""

    def rungs(self, epochs: float) -> tuple[int, ...]:
        """The epochs at whose end trials of so many epochs are judged against each other, where they are few."""
        return ()

    def stages(self, trials: float, epochs: int) -> list[tuple[float, int]]:
        """How many trials are expected to train for how many epochs more, stage after stage."""
        return [(trials, epochs)]

    def flaw(self, epochs: int) -> str:
        """What is wrong with it for trials of so many epochs; empty if nothing is."""
        return ""

    def problems(self, base: JobSpec, space: Space, trials: int | None, searcher: Method) -> Iterator[tuple[str, ...]]:
        """What is wrong with the rest of the search for it: field, what is wrong, cures."""
        yield from ()

    def pauses(self, epoch: int) -> bool:
        """Whether trials pause after that epoch, from 1, until all have got there."""
        return False

    def take_over(
        self,
        space: Space,
        base: Mapping[str, Any],
        trials: Mapping[int, tuple[Mapping[str, Any], float]],
        mode: Mode,
        *words: int | str,
    ) -> dict[int, tuple[int, dict[str, Any]]]:
        """Once all trials have paused: trial -> the trial whose weights it resumes from, and its parameters from then
        on; for those that change.

        Args:
            space: name -> distribution.
            base: data of the base job.
            trials: ordinal -> parameters and value of the metric.
            mode: whether more is better, or less.
            words: what the draws depend on: the search's seed and the epoch.
        """
        return {}

    def checkpoints(self, given: Checkpoints) -> Checkpoints:
        """When trials save themselves, and how much they keep."""
        return given

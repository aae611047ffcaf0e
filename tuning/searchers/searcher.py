"""The interface of searchers: a spec builds one, which is asked for configurations and told their results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from jobs.base import Spec
from jobs.randomness import key
from jobs.spec import JobSpec
from tuning.spec.objective import Objective
from tuning.spec.space import Distribution, Space, draw

State = Literal["finished", "stopped", "diverged", "failed"]


def uniform(*words: int | str) -> float:
    """A number in [0, 1) that is a hash of ``words``; the same on every machine and in every process."""
    return (key(*words) >> 10) * 2.0**-53


class Searcher(ABC):
    """Chooses the parameters of trials, which are numbered by ordinals from 0.

    What it answers is a function of its arguments and of what it was told, so one that is rebuilt after a crash
    and told the same continues as the old one would have. Start points are asked first; what they leave out is drawn.
    Observations of another search are told under negative ordinals before the first ask.

    Args:
        space: name -> distribution.
        base: the job that the parameters change; conditions are about it.
        seed: of the search.
        objectives: what is optimised.
        points: parameters to begin with; names that are not drawn there and values outside the space are left out.
    """

    def __init__(
        self,
        space: Space,
        base: JobSpec,
        seed: int,
        objectives: Sequence[Objective],
        points: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.space, self.seed, self.objectives = dict(space), seed, tuple(objectives)
        self.base = base.model_dump(mode="json")
        self.points = tuple(points)

    @property
    def trials(self) -> int | None:
        """After how many trials it ends by itself; None if it does not, or not after a number that is known."""
        return None

    @property
    def learned_from(self) -> int:
        """Observations of another search that it goes by; 0 where it goes by none."""
        return 0

    def ask(self, ordinal: int) -> dict[str, Any] | None:
        """Parameters of a new trial, by dotted name; None when there is nothing left to try."""
        if ordinal < len(self.points):
            params: dict[str, Any] | None = self._point(ordinal)
        else:
            params = self._choose(ordinal)
        if params is not None:
            self.begin(ordinal, params)
        return params

    def begin(self, ordinal: int, params: Mapping[str, Any]) -> None:  # noqa: B027 (most have nothing to remember)
        """Note that a trial runs with ``params``; :meth:`ask` does so itself, a resumed search may do so instead."""

    def report(self, ordinal: int, epoch: int, value: float) -> None:  # noqa: B027
        """Note the first objective's value after ``epoch`` (from 1) of a running trial."""

    def tell(  # noqa: B027
        self, ordinal: int, params: Mapping[str, Any], values: Mapping[str, float] | None, state: State
    ) -> None:
        """Note how a trial ended.

        Args:
            ordinal: of the trial.
            params: as asked.
            values: metric -> value, the objectives among them; None where it has none.
            state: finished, stopped early by the scheduler, diverged (it would again), or failed.
        """

    @abstractmethod
    def _choose(self, ordinal: int) -> dict[str, Any] | None:
        """Parameters of a trial that is no start point."""

    def _point(self, ordinal: int) -> dict[str, Any]:
        given = self.points[ordinal]
        return draw(
            self.space,
            self.base,
            lambda name, distribution: (
                given[name]
                if name in given and distribution.contains(given[name])
                else distribution.at(uniform(self.seed, "start", ordinal, name))
            ),
        )


class Method(Spec):
    """A way to choose configurations.

    Attributes:
        finite: whether it ends by itself.
        independent: whether what it draws does not depend on results.
        several: whether it is for several objectives only.
        repeats: whether it may try a configuration again.
    """

    finite: ClassVar[bool] = False
    independent: ClassVar[bool] = False
    several: ClassVar[bool] = False
    repeats: ClassVar[bool] = False
    kind: str
    """Its name in a spec."""

    def values(self, distribution: Distribution) -> Sequence[Any] | None:
        """The values that it takes from a distribution; None if it may take any of them."""
        return None

    @abstractmethod
    def build(
        self,
        space: Space,
        base: JobSpec,
        seed: int,
        objectives: Sequence[Objective],
        points: Sequence[Mapping[str, Any]] = (),
    ) -> Searcher:
        """The searcher; for the arguments see :class:`Searcher`.

        Raises:
            ValueError: it cannot search this.
        """

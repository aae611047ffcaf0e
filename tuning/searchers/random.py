"""Random search (Bergstra & Bengio, JMLR 13, 2012): every configuration drawn independently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from jobs.spec import JobSpec
from tuning.searchers.searcher import Method, Searcher, uniform
from tuning.spec.objective import Objective
from tuning.spec.space import Space, draw


class RandomSearcher(Searcher):
    """A value is a function of (seed, ordinal, name), so another axis or an open branch changes no other value."""

    def _choose(self, ordinal: int) -> dict[str, Any]:
        return draw(
            self.space,
            self.base,
            lambda name, distribution: distribution.at(uniform(self.seed, "random", ordinal, name)),
        )


class Random(Method):
    """Draw every configuration independently."""

    independent: ClassVar[bool] = True
    repeats: ClassVar[bool] = True
    kind: Literal["random"] = "random"

    def build(
        self,
        space: Space,
        base: JobSpec,
        seed: int,
        objectives: Sequence[Objective],
        points: Sequence[Mapping[str, Any]] = (),
    ) -> Searcher:
        """The searcher."""
        return RandomSearcher(space, base, seed, objectives, points)

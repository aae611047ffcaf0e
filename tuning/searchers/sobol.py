"""Sobol search: a scrambled Sobol sequence (Owen, 1998, by SciPy) fills the space more evenly than random draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from jobs.randomness import key
from jobs.spec import JobSpec
from tuning.searchers.searcher import Method, Searcher
from tuning.spec.objective import Objective
from tuning.spec.space import Space, draw, free


def sobol(seed: int, place: int, dimensions: int) -> list[float]:
    """Entry ``place`` (from 0) of the scrambled sequence of that seed: ``dimensions`` numbers in [0, 1)."""
    import numpy as np
    from scipy.stats import qmc

    if not dimensions:
        return []
    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(key(seed, "sobol")))
    if place:  # SciPy cannot skip nothing
        sequence.fast_forward(place)
    return [float(u) for u in sequence.random(1)[0]]


def spread(space: Space, base: Mapping[str, Any], seed: int, place: int) -> dict[str, Any]:
    """Parameters at entry ``place`` of the sequence; every name has a dimension of its own, drawn or not."""
    names = free(space)
    us = dict(zip(names, sobol(seed, place, len(names)), strict=True))
    return draw(space, base, lambda name, distribution: distribution.at(us.get(name, 0.0)))


class SobolSearcher(Searcher):
    """A configuration is a function of (seed, ordinal); start points come before the sequence."""

    def _choose(self, ordinal: int) -> dict[str, Any]:
        return spread(self.space, self.base, self.seed, ordinal - len(self.points))


class Sobol(Method):
    """Fill the space evenly."""

    independent: ClassVar[bool] = True
    repeats: ClassVar[bool] = True
    kind: Literal["sobol"] = "sobol"

    def build(
        self,
        space: Space,
        base: JobSpec,
        seed: int,
        objectives: Sequence[Objective],
        points: Sequence[Mapping[str, Any]] = (),
    ) -> Searcher:
        """The searcher."""
        return SobolSearcher(space, base, seed, objectives, points)

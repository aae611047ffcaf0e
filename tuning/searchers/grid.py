"""Grid search: every combination, the last name of the space changing fastest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Literal

from pydantic import Field

from jobs.spec import JobSpec
from tuning.searchers.searcher import Method, Searcher
from tuning.spec.objective import Objective
from tuning.spec.space import Distribution, Space, combinations, same

LARGEST = 10_000
"""Combinations of the largest grid that is accepted."""


class GridSearcher(Searcher):
    """Ordinal after ordinal through the list; start points come before it, and are left out of it.

    Args:
        grid: the combinations.
        arguments: see :class:`Searcher`.
    """

    def __init__(self, grid: Sequence[dict[str, Any]], *arguments: Any) -> None:
        super().__init__(*arguments)
        first = [self._point(ordinal) for ordinal in range(len(self.points))]
        self.grid = [one for one in grid if not any(same(one, point) for point in first)]

    @property
    def trials(self) -> int:
        """Start points and combinations."""
        return len(self.points) + len(self.grid)

    def _choose(self, ordinal: int) -> dict[str, Any] | None:
        place = ordinal - len(self.points)
        return deepcopy(self.grid[place]) if place < len(self.grid) else None


class Grid(Method):
    """Try every combination."""

    finite: ClassVar[bool] = True
    kind: Literal["grid"] = "grid"
    points: int = Field(3, ge=2, le=1000)
    """Values taken from every range, both ends included; a choice contributes all its values."""

    def values(self, distribution: Distribution) -> Sequence[Any]:
        """Those of the grid."""
        return distribution.grid(self.points)

    def build(
        self,
        space: Space,
        base: JobSpec,
        seed: int,
        objectives: Sequence[Objective],
        points: Sequence[Mapping[str, Any]] = (),
    ) -> Searcher:
        """The searcher.

        Raises:
            ValueError: there are more than ``LARGEST`` combinations.
        """
        grid: list[dict[str, Any]] = []
        for combination in combinations(space, base.model_dump(mode="json"), self.points):
            if len(grid) == LARGEST:
                counts = {name: len(distribution.grid(self.points)) for name, distribution in space.items()}
                terms = " x ".join(f"{name} {count}" for name, count in counts.items() if count > 1)
                raise ValueError(
                    f"the grid has more than {LARGEST:,} combinations ({terms}): lower searcher.points, leave names "
                    "out, or take kind sobol"
                )
            grid.append(combination)
        return GridSearcher(grid, space, base, seed, objectives, points)

"""NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6, 2002), by Optuna: generations of configurations
move towards the front of several objectives and spread along it.

It takes many generations; for some dozens of trials kind tpe, which takes several objectives too, finds the better
front. Names of a branch that is not open in all trials are drawn at random instead of inherited. Departure: the first
generation is a Sobol sequence instead of random draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from jobs.spec import JobSpec
from tuning.searchers.searcher import Method, Searcher
from tuning.searchers.study import StudySearcher, need_optuna
from tuning.spec.objective import Objective
from tuning.spec.space import Space

if TYPE_CHECKING:
    from optuna.samplers import NSGAIISampler


class NSGA2Searcher(StudySearcher):
    """Asks ``NSGAIISampler``; a trial belongs to the generation that was going when it began.

    Args:
        population: trials of a generation.
        arguments: see :class:`tuning.searchers.searcher.Searcher`.
    """

    def __init__(self, population: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.population = population

    def begin(self, ordinal: int, params: Mapping[str, Any]) -> None:
        """Note that a trial runs, and its generation."""
        known = ordinal in self.seen
        super().begin(ordinal, params)
        if not known and ordinal in self.seen:
            _, self.seen[ordinal].attributes = self._generation(ordinal)

    def _generation(self, ordinal: int) -> tuple[int, dict[str, Any]]:
        """The generation that is going, and how Optuna writes it down."""
        from optuna.trial import TrialState, create_trial

        study = self._study(0, ordinal)
        study.add_trial(create_trial(state=TrialState.RUNNING))
        generation = self._sampler(0).get_trial_generation(study, study.trials[-1])
        return generation, study.trials[-1].system_attrs

    def _starting(self, ordinal: int) -> bool:
        return self._generation(ordinal)[0] == 0

    def _sampler(self, seed: int) -> NSGAIISampler:
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(population_size=self.population, seed=seed)


class NSGA2(Method):
    """Look for the Pareto front of several objectives."""

    several: ClassVar[bool] = True
    kind: Literal["nsga2"] = "nsga2"
    population: int = Field(16, ge=2, le=10_000)
    """Trials in a generation."""

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
            ValueError: Optuna is not installed.
        """
        need_optuna(self.kind)
        return NSGA2Searcher(self.population, space, base, seed, objectives, points)

"""TPE, the tree-structured Parzen estimator (Bergstra et al., NIPS 2011; multivariate: Falkner et al., arXiv
1807.01774), by Optuna: draws from where the good trials are dense and the others are not.

Jointly over the names of a branch (Optuna's ``group``), since they act together. Trials that still run count as bad
ones (``constant_liar``), so that concurrent ones keep apart. A trial that was stopped early ranks below all finished
ones, those that got further above the others; a diverged one ranks last, one that failed otherwise is ignored.
Departure: the first trials are entries of a Sobol sequence instead of random draws. With several objectives it is MOTPE
(Ozaki et al., GECCO 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from jobs.spec import JobSpec
from tuning.searchers.searcher import Method, Searcher
from tuning.searchers.study import StudySearcher, need_optuna
from tuning.spec.objective import Objective
from tuning.spec.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class TPESearcher(StudySearcher):
    """Asks ``TPESampler``.

    Args:
        spec: settings.
        arguments: see :class:`tuning.searchers.searcher.Searcher`.
    """

    def __init__(self, spec: TPE, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.spec = spec

    def _starting(self, ordinal: int) -> bool:
        return sum(seen.state in ("finished", "stopped") for seen in self.seen.values()) < self.spec.startup_trials

    def _sampler(self, seed: int) -> BaseSampler:
        from optuna.samplers import TPESampler

        candidates = self.spec.candidates
        return TPESampler(
            n_startup_trials=1, n_ei_candidates=candidates, seed=seed, multivariate=True, group=True, constant_liar=True
        )


class TPE(Method):
    """Learn from the trials so far where the good ones are."""

    kind: Literal["tpe"] = "tpe"
    startup_trials: int = Field(8, gt=0, le=1_000_000)
    """Trials that must have ended, finished or stopped, before it goes by them; until then the space is filled
    evenly."""
    candidates: int = Field(24, gt=0, le=100_000)
    """Draws per trial, of which the most promising is taken."""

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
        return TPESearcher(self, space, base, seed, objectives, points)

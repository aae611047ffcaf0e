"""What searchers with an Optuna sampler share: the study, rebuilt for every question from what was told.

Optuna's samplers carry a random state from question to question. Here each question gets a sampler of its own, seeded
by (seed, ordinal), over a study in the order of the ordinals: the answer depends on what was told, not on when, nor on
which process asks. A configuration that was tried is not tried again, since the job would give the same result; where
none is found that is new, there is nothing left to try.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jobs.randomness import key
from tuning.searchers.searcher import Searcher, State, uniform
from tuning.searchers.sobol import spread
from tuning.spec.space import active, draw, same

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

_SAMPLES, _TRIES = 5, 50
"""How often the sampler is asked for a configuration that is new, and how often in all, the rest at random."""


@dataclass
class Seen:
    """A trial as the searcher knows it; ``attributes`` are the sampler's own."""

    params: dict[str, Any]
    state: State | Literal["running"] = "running"
    values: list[float] | None = None
    reports: dict[int, float] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


class StudySearcher(Searcher):
    """A searcher that asks a sampler of Optuna's; see :class:`Searcher` for the arguments."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: dict[int, Seen] = {}
        self._reports: dict[int, dict[int, float]] = {}

    @abstractmethod
    def _sampler(self, seed: int) -> BaseSampler:
        """A new sampler."""

    @abstractmethod
    def _starting(self, ordinal: int) -> bool:
        """Whether too little is known yet, so that the space is filled evenly."""

    @property
    def learned_from(self) -> int:
        """Those that this search could have made itself."""
        return sum(ordinal < 0 for ordinal in self.seen)

    def ask(self, ordinal: int) -> dict[str, Any] | None:
        """Parameters of a new trial; those of one that has started, again."""
        return deepcopy(self.seen[ordinal].params) if ordinal in self.seen else super().ask(ordinal)

    def begin(self, ordinal: int, params: Mapping[str, Any]) -> None:
        """Note that a trial runs, perhaps again after a failure, so that others keep away from it."""
        if ordinal in self.seen:
            self.seen[ordinal].state = "running"
        elif self._fits(params):
            self.seen[ordinal] = Seen(deepcopy(dict(params)))

    def report(self, ordinal: int, epoch: int, value: float) -> None:
        """Note a value on the way; the first for an epoch counts."""
        self._reports.setdefault(ordinal, {}).setdefault(epoch, value)

    def tell(self, ordinal: int, params: Mapping[str, Any], values: Mapping[str, float] | None, state: State) -> None:
        """Note how a trial ended. What another search observed outside of this space is left out."""
        self.begin(ordinal, params)
        if seen := self.seen.get(ordinal):
            seen.state = state
            seen.values = [float((values or {}).get(objective.metric, math.nan)) for objective in self.objectives]
            seen.reports = self._reports.get(ordinal, {})

    def _choose(self, ordinal: int) -> dict[str, Any] | None:
        tried = [seen.params for other, seen in self.seen.items() if other >= 0]
        samples = 0 if self._starting(ordinal) else _SAMPLES
        for attempt in range(_TRIES):
            params = self._sample(ordinal, attempt) if attempt < samples else self._fill(ordinal, attempt)
            if not any(same(params, other) for other in tried):
                return params
        return None

    def _fill(self, ordinal: int, attempt: int) -> dict[str, Any]:
        if not attempt:
            return spread(self.space, self.base, self.seed, ordinal - len(self.points))
        return draw(
            self.space,
            self.base,
            lambda name, distribution: distribution.at(uniform(self.seed, "again", ordinal, attempt, name)),
        )

    def _sample(self, ordinal: int, attempt: int) -> dict[str, Any]:
        trial = self._study(key(self.seed, "search", ordinal, attempt), ordinal).ask()
        return draw(
            self.space,
            self.base,
            lambda name, distribution: distribution.decode(_suggest(trial, name, distribution.optuna())),
        )

    def _study(self, seed: int, without: int) -> Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions: list[Literal["maximize", "minimize"]]
        directions = ["maximize" if objective.mode == "max" else "minimize" for objective in self.objectives]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(directions=directions, sampler=self._sampler(seed % 2**32))
        study.add_trials([self._frozen(seen) for ordinal, seen in sorted(self.seen.items()) if ordinal != without])
        return study

    def _frozen(self, seen: Seen) -> FrozenTrial:
        from optuna.trial import TrialState, create_trial

        names = [name for name in self.space if name in seen.params]
        given: dict[str, Any] = {
            "params": {name: self.space[name].encode(seen.params[name]) for name in names},
            "distributions": {name: self.space[name].optuna() for name in names},
            "system_attrs": seen.attributes,
        }
        if seen.state == "running":
            return create_trial(state=TrialState.RUNNING, **given)
        values = seen.values or []
        if seen.state == "finished" and all(map(math.isfinite, values)):
            return create_trial(state=TrialState.COMPLETE, values=values, **given)
        if seen.state == "failed" or len(values) > 1:
            return create_trial(state=TrialState.FAIL, **given)
        reports = seen.reports if seen.state == "stopped" else {}
        last = reports[max(reports)] if reports else values[0] if seen.state == "stopped" else math.nan
        if not reports or math.isnan(last):  # what came to nothing ranks below all that got to an epoch
            reports = {0: last}
        return create_trial(state=TrialState.PRUNED, intermediate_values=reports, **given)

    def _fits(self, params: Mapping[str, Any]) -> bool:
        """Whether this search could have drawn them."""
        known = all(name in self.space and self.space[name].contains(value) for name, value in params.items())
        return known and set(active(self.space, self.base, params)) == set(params)


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)


def need_optuna(kind: str) -> None:
    """Refuse a searcher without its library.

    Raises:
        ValueError: Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ValueError(
            f"searcher kind {kind} needs Optuna: pip install 'image-classification-orchestrator[search]', or take kind "
            "random or sobol"
        )

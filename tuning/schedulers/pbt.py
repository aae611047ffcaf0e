"""PBT, population based training (Jaderberg et al., arXiv 1711.09846): now and then, the worst of the running trials
resume from the weights of one of the best (``exploit``, by truncation selection) with its parameters a little changed
(``explore``).

Both are pure here: who copies whom and what changes follow from the scores and from numbers that were drawn before.
Whoever runs the trials copies the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from jobs.spec import Checkpoints, JobSpec
from tuning.schedulers.none import Patient
from tuning.schedulers.scheduler import Policy, Scheduler
from tuning.searchers.searcher import Method, uniform
from tuning.spec.objective import Mode
from tuning.spec.space import Choice, Distribution, Fixed, Integers, Space, draw, same


def exploit(population: Mapping[int, float], quantile: float, mode: Mode, draws: Mapping[int, float]) -> dict[int, int]:
    """Trial -> the trial whose weights and parameters it takes, for those that take any.

    Args:
        population: ordinal -> value of the metric; NaN is the worst.
        quantile: share of the trials that copy, and of those that are copied; at least one each.
        mode: whether more is better, or less.
        draws: ordinal -> number in [0, 1) that picks whom it copies.
    """
    sign = 1.0 if mode == "max" else -1.0
    scores = {ordinal: -math.inf if math.isnan(value) else sign * value for ordinal, value in population.items()}
    ranked = sorted(scores, key=lambda ordinal: (-scores[ordinal], ordinal))
    count = min(max(1, int(len(ranked) * quantile)), len(ranked) // 2)
    best, worst = ranked[:count], ranked[len(ranked) - count :]
    chosen = {ordinal: best[int(draws[ordinal] * count)] for ordinal in worst}
    return {ordinal: donor for ordinal, donor in chosen.items() if scores[donor] > scores[ordinal]}


def explore(
    space: Space, base: Mapping[str, Any], params: Mapping[str, Any], perturb: float, draws: Mapping[str, float]
) -> dict[str, Any]:
    """``params`` a little changed; a name whose branch opens by that is drawn.

    Args:
        space: name -> distribution.
        base: data of the base job.
        params: of the trial that was copied.
        perturb: p.
        draws: name -> number in [0, 1): below a half a number becomes 1 - p of itself and a choice the value before
            it in the list, else 1 + p and the value after it. An integer moves by 1 at least, and 0 by p of its range.
    """
    return draw(
        space,
        base,
        lambda name, distribution: (
            _moved(distribution, params[name], perturb, draws[name]) if name in params else distribution.at(draws[name])
        ),
    )


def _moved(distribution: Distribution, value: Any, perturb: float, u: float) -> Any:
    if isinstance(distribution, Fixed):
        return value
    direction = -1 if u < 0.5 else 1
    ends = distribution.ends()
    if isinstance(distribution, Choice):
        index = next(index for index, other in enumerate(ends) if same(other, value))
        return ends[min(len(ends) - 1, max(0, index + direction))]
    low, high = ends
    step = perturb * abs(value) or perturb * (high - low)
    if isinstance(distribution, Integers):
        step = max(1, round(step))
    return min(high, max(low, value + direction * step))


_SETTLED = (
    *("data", "model", "epochs", "batch_size", "accumulation", "precision", "channels_last", "compile", "seed"),
    *("ema", "swa", "repeats", "select"),
)
"""Fields that a half-trained network must keep."""


class PBT(Policy):
    """Let the worst trials take over weights and parameters of the best."""

    hands_over: ClassVar[bool] = True
    kind: Literal["pbt"] = "pbt"
    every_epochs: PositiveInt = 5
    """Epochs between takeovers."""
    quantile: float = Field(0.25, gt=0, le=0.5)
    """Share of the trials that copy, and of those that are copied."""
    perturb: float = Field(0.2, gt=0, lt=1)
    """Share by which a number changes, up or down."""

    def build(self, mode: Mode, epochs: int | None = None) -> Scheduler:
        """The scheduler, which stops nothing; see :meth:`exploit`."""
        return Patient(mode, epochs)

    def pauses(self, epoch: int) -> bool:
        """Whether there is a takeover after that epoch, from 1."""
        return epoch % self.every_epochs == 0

    def checkpoints(self, given: Checkpoints) -> Checkpoints:
        """A takeover needs the checkpoint of its epoch, and of the one before it where the donor is ahead."""
        kept = {"every_epochs": self.every_epochs, "every_steps": None, "keep": max(2, given.keep)}
        return given.model_copy(update=kept)

    def exploit(self, population: Mapping[int, float], mode: Mode, draws: Mapping[int, float]) -> dict[int, int]:
        """Who takes over whom; see :func:`exploit`."""
        return exploit(population, self.quantile, mode, draws)

    def explore(
        self, space: Space, base: Mapping[str, Any], params: Mapping[str, Any], draws: Mapping[str, float]
    ) -> dict[str, Any]:
        """The parameters after a takeover; see :func:`explore`."""
        return explore(space, base, params, self.perturb, draws)

    def take_over(
        self,
        space: Space,
        base: Mapping[str, Any],
        trials: Mapping[int, tuple[Mapping[str, Any], float]],
        mode: Mode,
        *words: int | str,
    ) -> dict[int, tuple[int, dict[str, Any]]]:
        """The worst copy the best, a little changed; see :meth:`Policy.take_over`."""
        scores = {ordinal: value for ordinal, (_, value) in trials.items()}
        picks = {ordinal: uniform(*words, "exploit", ordinal) for ordinal in trials}
        changes = {}
        for ordinal, donor in self.exploit(scores, mode, picks).items():
            draws = {name: uniform(*words, "explore", ordinal, name) for name in space}
            changes[ordinal] = (donor, self.explore(space, base, trials[donor][0], draws))
        return changes

    def flaw(self, epochs: int) -> str:
        """Whether there would be no takeover."""
        if self.every_epochs < epochs:
            return ""
        return f"every_epochs {self.every_epochs} must be less than the {epochs} epochs of a trial, or nothing happens"

    def problems(self, base: JobSpec, space: Space, trials: int | None, searcher: Method) -> Iterator[tuple[str, ...]]:
        """What weights that are handed from trial to trial require."""
        if (trials or 0) < 2:
            yield "budget", "kind pbt needs the size of its population", "set budget.trials to 4 or more"
        if not searcher.independent:
            yield "searcher", "kind pbt draws its population once and then changes it", "take random or sobol"
        evaluated = base.evaluation.every_epochs
        if self.every_epochs % evaluated:
            yield "scheduler", f"every_epochs {self.every_epochs} is no multiple of evaluation.every_epochs {evaluated}"
        for name, distribution in space.items():
            if name.split(".")[0] in _SETTLED or name in ("optimizer", "optimizer.kind"):
                yield f"space.{name}", f"{name} cannot change while a network is trained, as kind pbt would do"
            elif any(not isinstance(end, int | float | str | None) for end in distribution.ends()):
                yield f"space.{name}", "kind pbt changes single values only", "name the field inside of it"

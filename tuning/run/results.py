"""What came of the trials of a search: their values, who is best, and which are on the front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tuning.searchers import State
from tuning.spec.objective import Objective

Ended = Literal["FINISHED", "FAILED"]
Role = Literal["winner", "base"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass
class Trial:
    """One configuration and what came of it.

    Attributes:
        ordinal: its number, from 0; that of a run at the end of the search is below 0.
        run: name of its run.
        params: by dotted name.
        results: epoch -> metric -> value.
        status: RUNNING, FINISHED or FAILED.
        stopped_by: the scheduler's kind, where it was ended early.
        cause, kind: why it failed, and the kind of that failure.
        values: metric -> value at the end.
        donors: epoch -> ordinal of the trial whose weights it resumed from then.
        role: of a run at the end of the search.
    """

    ordinal: int
    run: str
    params: dict[str, Any]
    results: dict[int, dict[str, float]] = field(default_factory=dict)
    status: Ended | Literal["RUNNING"] = "RUNNING"
    stopped_by: str | None = None
    cause: str | None = None
    kind: str | None = None
    values: dict[str, float] = field(default_factory=dict)
    donors: dict[int, int] = field(default_factory=dict)
    role: Role | None = None

    @property
    def found(self) -> dict[str, float]:
        """Its values at the end, or where it stands; empty before its first epoch."""
        return self.values or (self.results[max(self.results)] if self.results else {})

    @property
    def retried(self) -> bool:
        """Whether another try may end otherwise: not where it diverged, which would be the same again, nor where the
        weights that it took over are gone."""
        return self.kind != "nan" and not self.donors

    @property
    def state(self) -> State:
        """As searchers call it: ``finished``, ``stopped``, ``diverged``, ``failed``."""
        return state_of(self.status, self.stopped_by, self.kind)


@dataclass(frozen=True)
class Final:
    """Which runs a search ends with.

    Attributes:
        runs: role -> ordinal, of a run of its own (below 0) or of a trial that was the same job already.
        best: ordinal of the trial whose values the winner has.
        images: of the test split.
        why: there are none; else empty.
    """

    runs: dict[Role, int]
    best: int
    images: int
    why: str


def state_of(status: str, stopped_by: str | None, kind: str | None) -> State:
    """How a trial ended, as searchers call it."""
    if status == "FAILED":
        return "diverged" if kind == "nan" else "failed"
    return "stopped" if stopped_by else "finished"


def number(values: Mapping[str, Any], name: str) -> float:
    """A value of an event; NaN where there is none."""
    return float(values.get(name, math.nan))


def ranked(trials: Sequence[Trial], goal: Objective) -> list[Trial]:
    """The trials with a value that did not fail, the best first; finished ones before stopped ones at equal values."""
    worth = {trial.ordinal: goal.worth(number(trial.found, goal.metric)) for trial in trials}
    scored = [trial for trial in trials if trial.status != "FAILED" and math.isfinite(worth[trial.ordinal])]
    return sorted(scored, key=lambda trial: (-worth[trial.ordinal], bool(trial.stopped_by), trial.ordinal))


def front(trials: Sequence[Trial], goals: Sequence[Objective]) -> list[Trial]:
    """The finished trials that no other one beats in all objectives, in the order given."""
    points = {}
    for trial in trials:
        point = [goal.worth(number(trial.found, goal.metric)) for goal in goals]
        if trial.status == "FINISHED" and not trial.stopped_by and all(map(math.isfinite, point)):
            points[trial.ordinal] = point
    beaten = {place for place, point in points.items() if any(_beats(other, point) for other in points.values())}
    return [trial for trial in trials if trial.ordinal in points.keys() - beaten]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))


def jsonable(values: Mapping[str, float]) -> dict[str, float | str]:
    """Values as a journal takes them: what is not finite is text."""
    return {name: value if math.isfinite(value) else str(value) for name, value in values.items()}


def best_epoch(epochs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The validation of the epoch whose weights a job selects: that of its first highest accuracy."""
    best = max(epochs, key=lambda at: at["val/top1"] if math.isfinite(number(at, "val/top1")) else -math.inf)
    return {name: value for name, value in best.items() if name.startswith("val/")}

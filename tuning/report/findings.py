"""What a search found, read from its journal: who is best, since when, and which values may be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.lock import holder
from orchestrator.tracking.journal import Event, lock_path, read
from tuning.run.history import FILE, History
from tuning.run.results import Trial, front, number, ranked
from tuning.spec.distributions import Distribution, Fixed
from tuning.spec.objective import Objective
from tuning.spec.search import SearchSpec
from tuning.studies import final
from tuning.studies.verdict import Verdict, judge, judged

ENOUGH = 10
"""Trials below which a pattern among them means little."""


@dataclass(frozen=True)
class Findings:
    """A search as it is now.

    Attributes:
        name: its name.
        spec: what was searched.
        trials: all of them, by ordinal.
        state: ``running``, ``stopped``, or ``over`` or ``gave up`` and why.
        began, ended: ordinal -> seconds that drivers had worked by then, pauses between them not counted.
        seconds: that drivers have worked in all.
        ending: what the runs at its end say, by a word each.
    """

    name: str
    spec: SearchSpec
    trials: tuple[Trial, ...]
    state: str
    began: dict[int, float]
    ended: dict[int, float]
    seconds: float
    ending: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> Findings:
        """The findings of the search in ``folder``, which may be running."""
        history = History.look(folder)
        assert history.spec is not None
        events = [entry.event for entry in read(folder / FILE)]
        clock = _clock(events)
        times: dict[str, dict[int, float]] = {"trial": {}, "end": {}}
        for event, at in zip(events, clock, strict=True):
            if event["event"] in times:
                times[event["event"]][event["ordinal"]] = at
        state = history.ending or ("running" if holder(lock_path(folder / FILE)) else "stopped")
        trials = tuple(history.trials[ordinal] for ordinal in sorted(history.trials))
        worked = clock[-1] if clock else 0.0
        return cls(folder.name, history.spec, trials, state, times["trial"], times["end"], worked, final.lines(history))

    @property
    def verdict(self) -> Verdict | None:
        """That on its arms, as it is now; without arms there is none."""
        over = self.state.startswith("over") and all(trial.status != "RUNNING" for trial in self.trials)
        return judge(self.spec.arms, self.trials, judged(self.spec), over) if self.spec.arms else None

    @property
    def goal(self) -> Objective:
        """The first objective, by which trials are ranked."""
        return self.spec.goals[0]

    @property
    def axes(self) -> dict[str, Distribution]:
        """What was varied: the names that were drawn at least once and may differ."""
        drawn = {name for trial in self.trials for name in trial.params}
        return {name: axis for name, axis in self.spec.axes().items() if name in drawn and not isinstance(axis, Fixed)}

    def identity(self, trial: Trial) -> dict[str, Any]:
        """What a trial is known by: its parameters, or its arm and seed."""
        return self.spec.told(trial.ordinal, trial.params)

    @property
    def names(self) -> list[str]:
        """Of what was varied."""
        return ["arm", "seed"] if self.spec.arms else list(self.axes)

    def value(self, trial: Trial, metric: str | None = None) -> float:
        """A metric of a trial at its end or, before it, of its last epoch; NaN where there is none."""
        return number(trial.found, metric or self.goal.metric)

    def seconds_of(self, trial: Trial) -> float:
        """What a trial reports as its seconds, or else those from its beginning to its end; NaN while unknown."""
        clock = self.ended.get(trial.ordinal, math.nan) - self.began[trial.ordinal]
        reported = self.value(trial, "seconds")
        return clock if math.isnan(reported) else reported

    @property
    def ranked(self) -> list[Trial]:
        """The trials with a value that did not fail, the best first; finished ones first at equal values."""
        return ranked(self.trials, self.goal)

    @property
    def failed(self) -> dict[str, list[Trial]]:
        """The failed trials by the kind of their failure, the most frequent kind first."""
        kinds: dict[str, list[Trial]] = {}
        for trial in self.trials:
            if trial.status == "FAILED":
                kinds.setdefault(trial.kind or "unknown", []).append(trial)
        return dict(sorted(kinds.items(), key=lambda item: -len(item[1])))

    def best_so_far(self) -> list[tuple[float, float, Trial]]:
        """Seconds of work, value and trial wherever one ended better than all before it."""
        best, steps = -math.inf, []
        for trial in sorted(self.ranked, key=lambda trial: self.ended.get(trial.ordinal, math.inf)):
            worth = self.goal.worth(self.value(trial))
            if trial.ordinal in self.ended and worth > best:
                best = worth
                steps.append((self.ended[trial.ordinal], self.value(trial), trial))
        return steps

    def front(self) -> list[Trial]:
        """The finished trials that no other one beats in all objectives, by the first objective, the best first."""
        return front(self.ranked, self.spec.goals)

    def comparable(self) -> tuple[dict[int, float], str]:
        """Values that may be compared, ordinal -> value, and in words which they are.

        Those of trials that finished; where these are few and others were stopped early, those after the last epoch
        that all of them reached, since a trial that was stopped is worse already by having trained for less.
        """
        finished = {
            trial.ordinal: self.value(trial)
            for trial in self.ranked
            if trial.status == "FINISHED" and not trial.stopped_by
        }
        ended = [trial for trial in self.trials if trial.status == "FINISHED" and trial.results]
        epoch = min((max(trial.results) for trial in ended), default=0)
        early = {trial.ordinal: number(trial.results.get(epoch, {}), self.goal.metric) for trial in ended}
        early = {ordinal: value for ordinal, value in early.items() if math.isfinite(value)}
        if len(finished) >= ENOUGH or len(early) <= len(finished):
            return finished, f"{self.goal.metric} at the end of the {len(finished)} trials that finished"
        return early, f"{self.goal.metric} after epoch {epoch}, the last that all {len(early)} trials reached"


def _clock(events: Sequence[Event]) -> list[float]:
    """Seconds of work at every event: the time between a driver's last event and the next driver's first is none."""
    clock: list[float] = []
    work = before = 0.0
    for event in events:
        if clock and event["event"] not in ("open", "search", "retry"):
            work += max(0.0, event["time"] - before)
        before = event["time"]
        clock.append(work)
    return clock

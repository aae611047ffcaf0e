"""What happened in a search, by its journal: searcher and scheduler are rebuilt from it after any stop or crash.

Events, each with its ``time`` (s, Unix): ``search`` (spec and base job, as JSON), ``open`` (a driver began to work),
``compile`` (whether the networks are compiled, where that was to be found out),
``trial`` (ordinal, run, params), ``result`` (ordinal, epoch, values), ``end`` (ordinal, status, values, stopped_by,
cause, kind), ``takeover`` (epoch, changes: ordinal -> donor and params; empty where no trial takes over another),
``retry`` (ordinal: its failure is forgotten), ``close`` (why the search is over).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jobs.base import Spec
from jobs.paths import changed
from jobs.spec import JobSpec
from orchestrator.runs.origin import here
from orchestrator.tracking.journal import Event, Journal, read
from tuning.schedulers import Scheduler
from tuning.searchers import Searcher, State
from tuning.spec.objective import Objective
from tuning.spec.search import SearchSpec

Ended = Literal["FINISHED", "FAILED"]
FILE = "search.jsonl"
"""Name of the journal in the folder of the search."""


@dataclass
class Trial:
    """One configuration and what came of it.

    Attributes:
        ordinal: its number, from 0.
        run: name of its run.
        params: by dotted name.
        results: epoch -> metric -> value.
        status: RUNNING, FINISHED or FAILED.
        stopped_by: the scheduler's kind, where it was ended early.
        cause, kind: why it failed, and the kind of that failure.
        values: metric -> value at the end.
        donors: epoch -> ordinal of the trial whose weights it went on from then.
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

    @property
    def found(self) -> dict[str, float]:
        """Its values at the end, or where it stands; empty before its first epoch."""
        return self.values or (self.results[max(self.results)] if self.results else {})

    @property
    def state(self) -> State:
        """As searchers call it: ``finished``, ``stopped``, ``failed``."""
        if self.status == "FAILED":
            return "failed"
        return "stopped" if self.stopped_by else "finished"


class History:
    """The trials of a search so far; what is added is on the disk before anybody acts on it.

    Args:
        folder: of the search.

    Raises:
        jobs.lock.Locked: another process drives this search.
        ValueError: its journal is corrupt.
    """

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder / FILE)
        self.trials: dict[int, Trial] = {}
        self.spec: SearchSpec | None = None
        self.closed: str | None = None
        self.compile: bool | None = None
        self.takeovers: set[int] = set()
        for event in self._journal.events:
            self._apply(event)

    @classmethod
    def look(cls, folder: Path) -> History:
        """The history as it stands, read only: for another terminal while the search runs."""
        history = cls.__new__(cls)
        history.trials, history.spec, history.takeovers = {}, None, set()
        history.closed = history.compile = None
        for entry in read(folder / FILE):
            history._apply(entry.event)
        return history

    @property
    def events(self) -> Sequence[Event]:
        """All of them, in order."""
        return self._journal.events

    @property
    def over(self) -> bool:
        """Whether it was closed and no trial waits to be resumed, as some do where the search gave up."""
        return self.closed is not None and all(trial.status != "RUNNING" for trial in self.trials.values())

    @property
    def spent_s(self) -> float:
        """Seconds that drivers have worked so far: from each ``open`` to the last event before the next."""
        total, began, last = 0.0, None, 0.0
        for event in self._journal.events:
            if event["event"] == "open":
                total += last - began if began is not None else 0.0
                began = event["time"]
            last = event["time"]
        return total + (time.time() - began if began is not None else 0.0)

    @property
    def epochs(self) -> int:
        """Epochs of all trials together."""
        return sum(max(trial.results, default=0) for trial in self.trials.values())

    def stale(self, goal: Objective) -> int:
        """Trials that ended since the best one did."""
        best, since = -math.inf, 0
        ends = {event["ordinal"]: place for place, event in enumerate(self.events) if event["event"] == "end"}
        for trial in (self.trials[ordinal] for ordinal in sorted(ends, key=ends.__getitem__)):
            if trial.status == "RUNNING":  # tried again
                continue
            since += 1
            worth = goal.worth(number(trial.found, goal.metric))
            if trial.status != "FAILED" and worth > best:
                best, since = worth, 0
        return since

    def lineage(self, ordinal: int, until: float = math.inf) -> dict[int, dict[str, float]]:
        """Epoch -> values on the way of a trial's weights, part of which they may have gone as another trial's."""
        trial = self.trials[ordinal]
        last = max((epoch for epoch in trial.donors if epoch < until), default=0)
        before = self.lineage(trial.donors[last], last) if last else {}
        return before | {epoch: values for epoch, values in trial.results.items() if last < epoch <= until}

    def add(self, event: str, **fields: Any) -> None:
        """Append an event and take it in."""
        entry = {"event": event, "time": time.time(), **fields}
        self._journal.append([entry])
        self._apply(entry)

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    def replay(self, searcher: Searcher, scheduler: Scheduler, metric: str) -> None:
        """Bring a fresh searcher and scheduler to where the old ones were."""
        for event in self._journal.events:
            ordinal = event.get("ordinal", -1)
            match event["event"]:
                case "trial":
                    searcher.begin(ordinal, event["params"])
                case "result":
                    value = number(event["values"], metric)
                    searcher.report(ordinal, event["epoch"], value)
                    scheduler.report(ordinal, event["epoch"], value)
                case "end":
                    state = (
                        "failed" if event["status"] == "FAILED" else "stopped" if event["stopped_by"] else "finished"
                    )
                    params = self.trials[ordinal].params
                    searcher.tell(ordinal, params, _numbers(event["values"]) or None, state)  # type: ignore[arg-type]

    def _apply(self, event: Event) -> None:
        match event["event"]:
            case "search":
                self.spec = SearchSpec.model_validate(_here(event["spec"], SearchSpec))
                if "base" in event:
                    self.spec = self.spec.begun_with(JobSpec.model_validate(_here(event["base"], JobSpec)))
            case "compile":
                self.compile = event["compile"]
            case "open":
                self.closed = None
            case "close":
                self.closed = event["why"]
            case "trial":
                self.trials[event["ordinal"]] = Trial(event["ordinal"], event["run"], event["params"])
            case "result":
                self.trials[event["ordinal"]].results.setdefault(event["epoch"], _numbers(event["values"]))
            case "end":
                trial = self.trials[event["ordinal"]]
                trial.status, trial.stopped_by = event["status"], event["stopped_by"]
                trial.cause, trial.kind, trial.values = event["cause"], event["kind"], _numbers(event["values"])
            case "takeover":
                self.takeovers.add(event["epoch"])
                for ordinal, change in event["changes"].items():
                    trial = self.trials[int(ordinal)]
                    trial.params = change["params"]
                    trial.donors[event["epoch"]] = change["donor"]
            case "retry":
                trial = self.trials[event["ordinal"]]
                trial.status, trial.cause, trial.kind, trial.values = "RUNNING", None, None, {}


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


def _here(data: dict[str, Any], kind: type[Spec]) -> dict[str, Any]:
    """A spec as JSON, with paths into another working directory of Ray's as they are in this one's."""
    return changed(data, lambda found: here(found.value), kind)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}

"""What happened in a search, by its journal: searcher and scheduler are rebuilt from it after any stop or crash.

Events, each with its ``time`` (s, Unix): ``search`` (spec and base job, as JSON), ``open`` (a driver began to work),
``compile`` (whether the networks are compiled, where that was to be found out),
``trial`` (ordinal, run, params; with a role and an ordinal below 0: a run at the end of the search), ``final`` (winner,
base: ordinals of those runs, or of trials that were the same already; best: the winner's trial; images: of the test
split; or why there are none), ``result`` (ordinal, epoch, values), ``end`` (ordinal, status, values, stopped_by,
cause, kind), ``takeover`` (epoch, changes: ordinal -> donor and params; empty where no trial takes over another),
``retry`` (ordinal: its failure is forgotten), ``close`` (why the search is over).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.base import Spec
from jobs.paths import changed
from jobs.report import Record
from jobs.spec import JobSpec
from orchestrator.runs.origin import here
from orchestrator.tracking.journal import Event, Journal, read
from tuning.run.results import ROLES, Final, Role, Trial, number, ranked, state_of
from tuning.schedulers import Scheduler
from tuning.searchers import Searcher
from tuning.spec.objective import Objective
from tuning.spec.search import SearchSpec

FILE = "search.jsonl"
"""Name of the journal in the folder of the search."""


Earlier = tuple[tuple[Mapping[str, Any], ...], tuple[tuple[Mapping[str, Any], Mapping[str, float]], ...]]
"""Of an earlier search: parameters of the best trial, and (parameters, values) of all that finished."""


class History:
    """The trials of a search so far; what is added is on the disk before anybody acts on it.

    Args:
        folder: of the search.

    Attributes:
        trials: ordinal -> trial.
        finals: ordinal -> run at the end of the search, never one of ``trials``: it steers nothing.
        closed: why it ended; None while it has not.
        gave_up: whether it ended for failures, so that it may be resumed once their cause is gone.
        failed: ordinals of those that failed since it last gave up.
        final: which of them count; None until that is decided.
        earlier: what the search that it starts from had found by then.

    Raises:
        jobs.lock.Locked: another process drives this search.
        ValueError: its journal is corrupt.
    """

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder / FILE)
        self._blank()
        for event in self._journal.events:
            self._apply(event)

    @classmethod
    def look(cls, folder: Path) -> History:
        """The history as it stands, read only: for another terminal while the search runs."""
        history = cls.__new__(cls)
        history._blank()
        for entry in read(folder / FILE):
            history._apply(entry.event)
        return history

    def _blank(self) -> None:
        self.trials: dict[int, Trial] = {}
        self.finals: dict[int, Trial] = {}
        self.final: Final | None = None
        self.spec: SearchSpec | None = None
        self.closed: str | None = None
        self.gave_up = False
        self.failed: set[int] = set()
        self.compile: bool | None = None
        self.earlier: Earlier | None = None
        self.takeovers: set[int] = set()
        self._worked, self._newest = 0.0, 0.0  # seconds of drivers before this one; time of the newest event
        self._began: float | None = None

    def trial(self, ordinal: int) -> Trial:
        """A trial, or a run at the end."""
        return self.finals[ordinal] if ordinal < 0 else self.trials[ordinal]

    @property
    def last(self) -> dict[Role, Trial]:
        """The runs that the search ends with, by role; one run may have both. Empty until they are decided."""
        return {role: self.trial(ordinal) for role, ordinal in self.final.runs.items()} if self.final else {}

    @property
    def events(self) -> Sequence[Event]:
        """All of them, in order."""
        return self._journal.events

    @property
    def over(self) -> bool:
        """Whether it was closed, and that for good: not where it gave up, or where trials wait to be resumed."""
        runs = (*self.trials.values(), *self.last.values())
        return self.closed is not None and not self.gave_up and all(trial.status != "RUNNING" for trial in runs)

    @property
    def ending(self) -> str:
        """``over`` or ``gave up``, and why; empty while it has not ended."""
        return f"{'gave up' if self.gave_up else 'over'}: {self.closed}" if self.closed else ""

    @property
    def spent_s(self) -> float:
        """Seconds that drivers have worked so far: from each ``open`` to the last event before the next."""
        return self._worked + (time.time() - self._began if self._began is not None else 0.0)

    @property
    def epochs(self) -> int:
        """Epochs of all trials together."""
        return sum(max(trial.results, default=0) for trial in self.trials.values())

    def stale(self, goals: Sequence[Objective]) -> int:
        """Trials that ended since the best one did; of several objectives, since one that no other beats."""
        best, since = list[list[float]](), 0
        ends = {event["ordinal"]: place for place, event in enumerate(self.events) if event["event"] == "end"}
        for trial in (self.trial(ordinal) for ordinal in sorted(ends, key=ends.__getitem__)):
            if trial.status == "RUNNING" or trial.role:  # it is tried again, or was no trial
                continue
            since += 1
            point = [goal.worth(number(trial.found, goal.metric)) for goal in goals]
            beaten = any(all(a >= b for a, b in zip(other, point, strict=True)) for other in best)
            if trial.status != "FAILED" and -math.inf not in point and not beaten:
                best, since = [*best, point], 0
        return since

    def lineage(self, ordinal: int, until: float = math.inf) -> dict[int, dict[str, float]]:
        """Epoch -> values on the way of a trial's weights, part of which they may have gone as another trial's."""
        trial = self.trial(ordinal)
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
            if ordinal < 0:  # the runs at the end steer nothing
                continue
            match event["event"]:
                case "trial":
                    searcher.begin(ordinal, event["params"])
                case "result":
                    value = number(event["values"], metric)
                    searcher.report(ordinal, event["epoch"], value)
                    scheduler.report(ordinal, event["epoch"], value)
                case "end":
                    state = state_of(event["status"], event["stopped_by"], event["kind"])
                    searcher.tell(ordinal, self.trials[ordinal].params, _numbers(event["values"]) or None, state)

    def _apply(self, event: Event) -> None:
        if event["event"] == "open":
            self._worked += self._newest - self._began if self._began is not None else 0.0
            self._began = event["time"]
        self._newest = event["time"]
        match event["event"]:
            case "search":  # again where the one before never began
                self.compile = self.earlier = None
                if found := event.get("earlier"):
                    known = tuple((params, _numbers(values)) for params, values in found["known"])
                    self.earlier = tuple(found["best"]), known
                self.spec = SearchSpec.model_validate(_here(event["spec"], SearchSpec))
                if "base" in event:
                    self.spec = self.spec.begun_with(JobSpec.model_validate(_here(event["base"], JobSpec)))
            case "compile":
                self.compile = event["compile"]
            case "open":
                self.closed, self.gave_up = None, False
            case "close":
                self.closed, self.gave_up = event["why"], event.get("gave_up", False)
                if self.gave_up:  # when it is resumed, their cause is gone
                    self.failed.clear()
            case "trial":
                runs = self.finals if event["ordinal"] < 0 else self.trials
                made = Trial(event["ordinal"], event["run"], event["params"], role=event.get("role"))
                runs[made.ordinal] = made
            case "final":
                runs_of = {role: event[role] for role in ROLES if role in event}
                self.final = Final(runs_of, event.get("best", -1), event.get("images", 0), event.get("why", ""))
            case "result":
                self.trial(event["ordinal"]).results.setdefault(event["epoch"], _numbers(event["values"]))
            case "end":
                trial = self.trial(event["ordinal"])
                trial.status, trial.stopped_by = event["status"], event["stopped_by"]
                trial.cause, trial.kind, trial.values = event["cause"], event["kind"], _numbers(event["values"])
                if trial.status == "FAILED":
                    self.failed.add(trial.ordinal)
            case "takeover":
                self.takeovers.add(event["epoch"])
                for ordinal, change in event["changes"].items():
                    trial = self.trials[int(ordinal)]
                    trial.params = change["params"]
                    trial.donors[event["epoch"]] = change["donor"]
            case "retry":
                trial = self.trial(event["ordinal"])
                trial.status, trial.cause, trial.kind, trial.values = "RUNNING", None, None, {}
                self.failed.discard(trial.ordinal)
                if not trial.role:  # another trial may win now
                    self.final = None


def _here(data: dict[str, Any], kind: type[Spec]) -> dict[str, Any]:
    """A spec as JSON, with paths into another working directory of Ray's as they are in this one's."""
    return changed(data, lambda found: here(found.value), kind)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def tally(history: History, goal: Objective) -> list[Record]:
    """How far a search is: the series of its own run, by the number of its events."""
    trials = [history.trials[ordinal] for ordinal in sorted(history.trials)]
    ended = [trial for trial in trials if trial.status != "RUNNING"]
    failed = sum(trial.status == "FAILED" for trial in ended)
    values = {"epochs": float(history.epochs), "trials/ended": float(len(ended)), "trials/failed": float(failed)}
    best = ranked(trials, goal)[:1]
    values |= {f"best/{goal.metric}": number(trial.found, goal.metric) for trial in best}
    return [Record(name, len(history.events), value) for name, value in values.items()]

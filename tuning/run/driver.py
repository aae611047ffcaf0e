"""Drives a search: gets configurations, has Tune run them, and writes every result down before it acts on it.

The search's own journal (``tuning.run.history``) is the truth. Tune only places trials: when a search is resumed, a new
Tune experiment begins with the trials that were running, after searcher and scheduler were replayed from the journal.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from jobs.spec import JobSpec
from jobs.specfile import dump
from orchestrator.execution.answer import STOPPED, Answer
from orchestrator.execution.failures import Kind
from orchestrator.home import run_folder
from orchestrator.runs import storage, store
from orchestrator.runs.resume import SPEC
from orchestrator.tracking.client import RecorderClient
from orchestrator.tracking.journal import FILE, read
from orchestrator.tracking.mlflow import Shipper
from orchestrator.tracking.state import Status
from tuning.run import limits
from tuning.run.finals import Finals
from tuning.run.history import History, tally
from tuning.run.leftovers import Leftovers, kept_first
from tuning.run.named import new_run
from tuning.run.population import Population, settings, tags_of
from tuning.run.results import Ended, Trial, best_epoch, jsonable, number
from tuning.spec.search import SearchSpec
from tuning.spec.space import longest

if TYPE_CHECKING:
    from tuning.run.trial import TrialConfig

log = logging.getLogger(__name__)

Resolve = Callable[[JobSpec], JobSpec]
LATER: Final = "later"
"""There will be more to run, once running trials have got further."""


class Driver:
    """Decides for Tune's searcher, scheduler and callback (``tuning.run.tune``).

    Args:
        spec: the search, absolute.
        base: its job.
        history: its journal, opened.
        recorders: client of the recorder.
        resolve: makes the teacher of a job a folder, training it first if it is a job itself.
        tags: of every run.
        points: parameters to begin with; ``known``: (params, values) of an earlier search.
        finals: the runs at its end; None is those of a job that is as long as its trials.
    """

    def __init__(
        self,
        spec: SearchSpec,
        base: JobSpec,
        history: History,
        recorders: RecorderClient,
        resolve: Resolve,
        tags: Mapping[str, str],
        points: tuple[Mapping[str, Any], ...] = (),
        known: tuple[tuple[Mapping[str, Any], Mapping[str, float]], ...] = (),
        finals: Finals | None = None,
    ) -> None:
        self.spec, self.base, self.history, self.recorders = spec, base, history, recorders
        self.resolve, self.tags = resolve, dict(tags)
        self.goal = spec.goals[0]
        self.searcher = spec.build(base, points)
        self.scheduler = spec.scheduler.build(self.goal.mode, longest(spec.axes(base), base))
        for number_, (params, values) in enumerate(known, 1):
            self.searcher.tell(-number_, params, values, "finished")
        history.replay(self.searcher, self.scheduler, self.goal.metric)
        self.closing: str | None = None
        self.ended, self.gave_up = "trials", False
        self.lock = threading.RLock()
        self.live: set[int] = set()
        self.finals = finals or Finals(spec, base, base, history)
        self.population = Population(spec, base, history)
        self._waiting: list[Trial] = []
        self.leftovers = Leftovers(base.checkpoint.storage, spec.models_mb * 2**20)
        self._finish_what_was_begun()
        for trial in self.trials:
            if trial.status == "RUNNING":
                if self.population.pauses(max(trial.results, default=0)):
                    self.population.paused.add(trial.ordinal)
                else:
                    self._waiting.append(trial)
        self._waiting += self.population.take_over()

    @property
    def trials(self) -> list[Trial]:
        """All so far, by ordinal."""
        return [self.history.trials[ordinal] for ordinal in sorted(self.history.trials)]

    def next(self) -> TrialConfig | Literal["later"] | None:
        """What the next trial is to run, or the next of the runs that end the search; None if no more may begin."""
        with self.lock:
            self.sweep()
            while True:
                self.check_limits()
                trial = self._next()
                if trial is None or trial == LATER:
                    return trial
                try:
                    resolved = storage.shared(self.resolve(self._open(trial))).model_dump_json()
                except ValueError as error:  # ends that are fine alone need not be together
                    self._fail(trial, str(error), "spec")
                    continue
                config: TrialConfig = {"ordinal": trial.ordinal, "run": trial.run, "spec": resolved}
                if graft := self.population.graft(trial):
                    config["graft"] = graft
                return config

    def _next(self) -> Trial | Literal["later"] | None:
        if self.closing is None and self.history.final is None:
            if self._waiting:
                return self._waiting.pop(0)
            ordinal, budget = len(self.history.trials), self.spec.budget.trials
            params = self.searcher.ask(ordinal) if budget is None or ordinal < budget else None
            if params is not None:
                run = new_run(f"{self.spec.name}-{ordinal:04d}")  # none that an earlier search left
                self.history.add("trial", ordinal=ordinal, run=run, params=params)
                return self.history.trials[ordinal]
            if self._may_take_over():
                return LATER
            self.ended = "trials" if ordinal == budget else "nothing left to try"
        if self.closing == "interrupted" or self.gave_up or self.spec.unfinished:
            return None
        if self.history.final is None:
            if self.live:
                return LATER
            self.finals.decide()
        waiting = self.finals.waiting(self.live)
        for trial in waiting if limits.left_s(self.spec, self.history) <= 0 else ():
            self._end(trial, "FINISHED", stopped_by="hours")
        return next((trial for trial in waiting if trial.status == "RUNNING"), None)

    def result(self, ordinal: int, epoch: int, values: Mapping[str, float]) -> bool:
        """Take in an epoch of a trial; whether to stop it now."""
        with self.lock:
            trial = self.history.trial(ordinal)
            if epoch not in trial.results:
                self.history.add("result", ordinal=ordinal, epoch=epoch, values=values)
                self.recorders.record(self.spec.name, tally(self.history, self.goal))
            if trial.role:
                self.check_limits()
                return False
            value = number(trial.results[epoch], self.goal.metric)
            self.searcher.report(ordinal, epoch, value)
            stop = self.scheduler.report(ordinal, epoch, value) and epoch < trial.params.get("epochs", self.base.epochs)
            self.check_limits()
            if stop:
                self._end(trial, "FINISHED", stopped_by=self.spec.scheduler.kind)
            elif self.closing is None and self.population.pauses(epoch):
                self.population.paused.add(ordinal)
                self._waiting += self.population.take_over()
                return True
            return stop

    def answered(self, ordinal: int, answer: Answer) -> None:
        """Take in how a trial ended by itself."""
        with self.lock:
            trial = self.history.trial(ordinal)
            if answer.failure is not None and answer.kind is not None:
                self.failed(ordinal, answer.failure, answer.kind)
            elif answer.ended_by != STOPPED:
                self._end(trial, "FINISHED", more=answer.metrics)
            elif self.closing == "interrupted" or self.gave_up:  # it is resumed when the search is
                self._close(trial, "KILLED")
            else:
                self._end(trial, "FINISHED", stopped_by=self.closing or STOPPED)

    def failed(self, ordinal: int, cause: str, kind: Kind) -> None:
        """Take in that a trial failed for good."""
        with self.lock:
            if (trial := self.history.trial(ordinal)).status == "RUNNING" and ordinal in self.live:
                self._fail(trial, cause, kind)

    def over(self, why: str) -> None:
        """Begin no trial any more, and end those under way at their next report; later, the runs at the end."""
        with self.lock:
            if self.closing is None or self.history.final is not None:
                self.closing = why
                self.recorders.stop()
                idle = [*map(self.history.trial, sorted(self.population.paused)), *self._waiting]
                self.population.paused, self._waiting = set(), []
                for trial in idle:  # no loop of theirs will answer
                    if why != "interrupted" and not self.gave_up:
                        self._open(trial)
                    self.answered(trial.ordinal, Answer(STOPPED))

    def sweep(self, last: bool = False) -> None:
        """Delete what trials that have ended left behind and nobody wants."""
        if not self._may_take_over():
            self.leftovers.sweep(kept_first(self.history, self.spec.goals), last)

    def check_limits(self) -> None:
        """End the search where a budget is spent or nothing has improved for long."""
        reserve = self.finals.seconds() if self.history.final is None else 0.0
        if why := limits.reached(self.spec, self.history, reserve):
            self.over(why)

    def conclude(self) -> None:
        """Write into the search's own run which runs end it, and what they score on the test split."""
        for role, run in self.finals.runs().items():
            self.recorders.tag(self.spec.name, role, run)
        self.recorders.record(self.spec.name, self.finals.scores())

    def _may_take_over(self) -> bool:
        """Whether a trial may yet resume from another's checkpoint."""
        return self.spec.scheduler.hands_over and any(trial.status == "RUNNING" for trial in self.trials)

    def _finish_what_was_begun(self) -> None:
        """Carry out what the driver before this one had decided when it died: stop a trial to whose last epoch the
        scheduler had answered stop, end the runs of trials that have ended, and send what MLflow lacks of them.
        """
        for trial in (*self.trials, *self.history.finals.values()):
            if trial.status == "RUNNING":
                epoch = max(trial.results, default=0)
                value = number(trial.found, self.goal.metric)
                left = 0 < epoch < trial.params.get("epochs", self.base.epochs)
                if left and not trial.role and self.scheduler.report(trial.ordinal, epoch, value):
                    self._open(trial)
                    self._end(trial, "FINISHED", stopped_by=self.spec.scheduler.kind)
            elif (path := run_folder(trial.run) / FILE).exists():
                entries = read(path)
                behind = bool(entries) and Shipper(path.parent).seq < entries[-1].seq
                if behind or store.status_of(path.parent, [entry.event for entry in entries]) != trial.status:
                    self._open(trial)
                    self._close(trial, trial.status)

    def _open(self, trial: Trial) -> JobSpec:
        """Open or resume the run of a trial; its job.

        Raises:
            ValueError: its parameters do not make a job.
        """
        job = self.finals.job(trial)
        params = job.flatten()  # with the job's own name, so that it is not mistaken for a varied parameter
        tags = self.tags | tags_of(self.spec, trial)
        if trial.ordinal not in self.live:
            first = params if not trial.donors else None  # params once: what they become is told below
            where = job.tracking.experiment, job.tracking.uri
            text = list[str]()
            self.recorders.begin(trial.run, *where, first, tags, self.spec.name, lambda: text.append(dump(job)))
            self.live.add(trial.ordinal)
            if first is not None:  # so that each trial can be trained again by itself
                (run_folder(trial.run) / SPEC).write_text(text[0], encoding="utf-8")
                self.recorders.artifact(trial.run, run_folder(trial.run) / SPEC, wait=False)
        if self.spec.scheduler.hands_over:
            self.recorders.record(trial.run, settings(trial))
        return job.model_copy(update={"name": trial.run})

    def _end(
        self,
        trial: Trial,
        status: Ended,
        *,
        stopped_by: str | None = None,
        cause: str | None = None,
        kind: Kind | None = None,
        more: Mapping[str, float] | None = None,
    ) -> None:
        values = {**trial.found, **(more or {})}
        if trial.params.get("select", self.base.select) == "best" and trial.results:
            values |= best_epoch(self.history.lineage(trial.ordinal).values())
        ending = {"status": status, "stopped_by": stopped_by, "cause": cause, "kind": kind}
        self.history.add("end", ordinal=trial.ordinal, values=jsonable(values), **ending)
        if not trial.role:
            self.searcher.tell(trial.ordinal, trial.params, values or None, trial.state)
        self._close(trial, status)
        self.recorders.record(self.spec.name, tally(self.history, self.goal))
        self._waiting += self.population.take_over()  # the rest may have waited for this one

    def _fail(self, trial: Trial, cause: str, kind: Kind) -> None:
        self._end(trial, "FAILED", cause=cause, kind=kind)
        same = sum(self.history.trial(ordinal).kind == kind for ordinal in self.history.failed)
        studied = self.spec.arms is not None or trial.role  # an arm that fails does so on every seed
        found = kind == "nan" and any(other.status == "FINISHED" for other in self.trials)  # where others do not
        if kind == "disk" or (not studied and not found and same >= self.spec.stop.failures):
            self.gave_up = self.gave_up or self.closing is None
            self.over(f"{same} trials failed alike ({kind}: {cause})")

    def _close(self, trial: Trial, status: Status) -> None:
        """End the run of a trial, if it is open, with the reason in its tags."""
        if trial.ordinal not in self.live:
            return
        rung = self.scheduler.rung(trial.ordinal) if trial.stopped_by and not trial.role else None
        tags = {"stopped_by": trial.stopped_by, "cause": trial.cause, "failure": trial.kind, "rung": rung}
        for name, value in tags.items():
            if value is not None:
                self.recorders.tag(trial.run, name, str(value), wait=False)
        self.recorders.end(trial.run, status, last=True, wait=False)
        self.live.remove(trial.ordinal)

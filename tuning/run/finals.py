"""The end of a search: its winner and its job as it was, trained to the job's own length and scored on the test split.

Trials are often shorter than the job, or stopped early, so the best of them need not be better than the job by itself.
These two runs show it. They are ordinary runs with the seeds of all trials, and they steer nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from copy import deepcopy

from jobs.report import Record
from jobs.spec import JobSpec
from orchestrator.runs import storage
from tuning.run.history import History
from tuning.run.named import new_run
from tuning.run.results import ROLES, Role, Trial, number, ranked
from tuning.spec.search import SearchSpec
from tuning.spec.space import longest
from tuning.studies.final import chosen
from tuning.studies.verdict import METRIC, judged


class Finals:
    """Decides which two runs end a search.

    Args:
        spec: the search.
        base: the job that its trials change.
        whole: the same at its own length.
        history: of the search.
        images: of the test split.
        places: runs at a time.
    """

    def __init__(
        self, spec: SearchSpec, base: JobSpec, whole: JobSpec, history: History, images: int = 0, places: int = 1
    ) -> None:
        self.spec, self.base, self.whole, self.history, self.images = spec, base, whole, history, images
        self.places = places

    def job(self, trial: Trial) -> JobSpec:
        """The job of a trial, or of a run at the end.

        Raises:
            pydantic.ValidationError: its parameters do not make a job.
        """
        return self._whole(trial) if trial.role else self.spec.trial(trial.params, self.base)

    def waiting(self, live: Collection[int]) -> list[Trial]:
        """The runs that have yet to begin or to be resumed, as ``live`` are not."""
        runs = {trial.ordinal: trial for trial in self.history.last.values()}
        return [trial for trial in runs.values() if trial.status == "RUNNING" and trial.ordinal not in live]

    def decide(self) -> None:
        """Write down which runs end the search, once no trial runs any more; what is there already is not repeated."""
        best = next((trial for trial in self._ranked() if trial.status == "FINISHED"), None)
        why = self.spec.unfinished
        if not why and best is None:
            why = "no trial came to a result"
        elif not why and best is not None and best.donors and not self._serves(best, "winner", best):
            why = f"trial {best.ordinal}, the best, resumed from the weights of others, so no job repeats it"
        if why or best is None:
            self.history.add("final", why=why)
            return
        runs: dict[Role, int] = {}
        for role in ROLES:
            there = [best, *self.history.finals.values(), *self.history.trials.values()]
            same = next((trial for trial in there if self._serves(trial, role, best)), None)
            if same is None and role == "base" and self._equal(self.whole, self._whole(best)):
                same = self.history.trial(runs["winner"])
            runs[role] = same.ordinal if same else self._begin(role, best)
        self.history.add("final", **runs, best=best.ordinal, images=self.images)

    def runs(self) -> dict[str, str]:
        """Role -> run of those decided, and which was ``chosen`` where one has a score."""
        better = chosen(self.history)
        runs: dict[str, str] = {role: trial.run for role, trial in self.history.last.items()}
        return runs | ({"chosen": better.run} if better is not None else {})

    def scores(self) -> list[Record]:
        """What the runs score on the test split, as series of the search's own run."""
        metrics, last = dict.fromkeys((METRIC, judged(self.spec))), self.history.last.items()
        values = {f"{role}/{metric}": number(trial.values, metric) for role, trial in last for metric in metrics}
        return [Record(name, 0, value) for name, value in values.items() if math.isfinite(value)]

    def seconds(self) -> float:
        """How long the two runs are expected to take, by the slowest epochs so far."""
        if self.spec.unfinished:
            return 0.0
        rates = [number(trial.found, "seconds") / max(trial.results) for trial in self._ranked() if trial.results]
        epoch = max((rate for rate in rates if math.isfinite(rate)), default=0.0)
        return epoch * longest(self.spec.axes(self.whole), self.whole) * (1 if self.places > 1 else 2)

    def _begin(self, role: Role, best: Trial) -> int:
        ordinal = -1 - len(self.history.finals)
        params = best.params if role == "winner" else {}
        run = new_run(f"{self.spec.name}-{role}")
        self.history.add("trial", ordinal=ordinal, run=run, params=params, role=role)
        return ordinal

    def _serves(self, trial: Trial, role: Role, best: Trial) -> bool:
        """Whether a run is what the role asks for: the same job, at its end, scored, for the winner with its model."""
        scored = trial.status == "FINISHED" and not trial.stopped_by and math.isfinite(number(trial.values, METRIC))
        if not scored or (trial.donors and trial is not best):
            return False
        job = self._whole(best) if role == "winner" else self.whole
        if not self._equal(self.job(trial), job):
            return False
        return role == "base" or storage.size(trial.run, job.checkpoint.storage, "model") > 0

    def _whole(self, trial: Trial) -> JobSpec:
        return self.whole.override(deepcopy(trial.params))

    def _equal(self, one: JobSpec, other: JobSpec) -> bool:
        """Whether they train the same network; when it is saved makes no difference."""
        return one.model_copy(update={"checkpoint": other.checkpoint}) == other

    def _ranked(self) -> list[Trial]:
        return ranked(list(self.history.trials.values()), self.spec.goals[0])

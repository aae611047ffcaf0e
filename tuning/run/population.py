"""The trials of a search by population based training: who waits for whom, and who resumes from whose weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.report import Record
from jobs.spec import JobSpec
from orchestrator.tracking.best import OBJECTIVE
from orchestrator.tracking.state import DONOR
from tuning.run.history import History
from tuning.run.results import Trial, number
from tuning.spec.search import SearchSpec

if TYPE_CHECKING:
    from orchestrator.execution.worker import Graft


class Population:
    """All trials of a search; under any other scheduler nobody ever waits.

    Attributes:
        paused: ordinals of the trials that wait until all have got as far.
    """

    def __init__(self, spec: SearchSpec, base: JobSpec, history: History) -> None:
        self.spec, self.base, self.history = spec, base, history
        self.paused: set[int] = set()

    def pauses(self, epoch: int) -> bool:
        """Whether a trial waits after that epoch until all have got there."""
        due = 0 < epoch < self.base.epochs and self.spec.scheduler.pauses(epoch)
        return due and epoch not in self.history.takeovers

    def graft(self, trial: Trial) -> Graft | None:
        """The checkpoint of another trial that this one resumes from; None where it has taken over none."""
        if not trial.donors:
            return None
        epoch = max(trial.donors)
        return {"run": self.history.trials[trial.donors[epoch]].run, "epoch": epoch}

    def take_over(self) -> list[Trial]:
        """Once all wait: decide who resumes from whom, and write it down; the trials that resume now, else none."""
        if not self.paused:
            return []
        running = [trial for _, trial in sorted(self.history.trials.items()) if trial.status == "RUNNING"]
        all_there = len(self.history.trials) == self.spec.budget.trials
        if not all_there or self.paused != {trial.ordinal for trial in running}:
            return []
        epoch, base, goal = max(running[0].results), self.base.model_dump(mode="json"), self.spec.goals[0]
        trials = {t.ordinal: (t.params, number(t.results[epoch], goal.metric)) for t in running}
        changes = self.spec.scheduler.take_over(
            self.spec.axes(self.base), base, trials, goal.mode, self.spec.seed, epoch
        )
        told = {str(ordinal): {"donor": donor, "params": params} for ordinal, (donor, params) in changes.items()}
        self.history.add("takeover", epoch=epoch, changes=told)
        self.paused.clear()
        return running


def tags_of(spec: SearchSpec, trial: Trial) -> dict[str, str]:
    """Which of the runs of a search a run is, and by what it is judged."""
    goal = spec.goals[0]
    tags = {"search": spec.name, OBJECTIVE: f"{goal.metric} {goal.mode}"}
    if trial.role:
        return {**tags, "role": trial.role}
    told = {name: str(value) for name, value in spec.told(trial.ordinal, {}).items()}
    return {**tags, "ordinal": str(trial.ordinal), **told}


def settings(trial: Trial) -> list[Record]:
    """What a trial runs with now, as series of its run: MLflow's params never change."""
    epoch = max(trial.donors, default=0)
    values = {f"params/{name}": value for name, value in trial.params.items() if isinstance(value, int | float)}
    if epoch:
        values[DONOR] = trial.donors[epoch]
    return [Record(name, epoch, float(value)) for name, value in values.items()]

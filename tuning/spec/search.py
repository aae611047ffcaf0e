"""The spec of a search: many jobs that differ in some fields of their spec."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, JsonValue, NonNegativeInt, PositiveFloat, PositiveInt, PrivateAttr, model_validator

from jobs.base import DOTTED, Spec
from jobs.paths import LocalPath, NamesOf, absolute, paths
from jobs.spec import JobSpec
from jobs.specfile import SpecError, read
from tuning.schedulers import NoScheduler, SchedulerSpec
from tuning.searchers import TPE, Searcher, SearcherSpec
from tuning.spec.arms import OF_JOB, Arms
from tuning.spec.objective import Mode, Objective, check_metric
from tuning.spec.space import Choice, Distribution, DistributionSpec, LogUniform, Uniform

Params = dict[str, JsonValue]


def default_space(base: JobSpec) -> dict[str, Distribution]:
    """The four axes: warmup, label smoothing, mixup and, where there is a teacher, distillation.

    alpha changes what the teacher sees, so with a teacher it is one of four values: its answers can be kept for each.
    """
    alpha: Distribution = LogUniform(low=0.02, high=1.0)
    if base.distillation is not None:
        alpha = Choice(values=(0.05, 0.1, 0.2, 0.4))
    distilled = {"distillation": "present"}
    space = {
        "schedule.warmup_epochs": Uniform(low=0.0, high=min(10.0, base.epochs / 3)),
        "batch.label_smoothing.epsilon": Uniform(low=0.0, high=0.2),
        "batch.mixup.alpha": alpha,
    }
    if base.distillation is not None:
        space["distillation.temperature"] = LogUniform(low=1.0, high=20.0, when=distilled)
        space["distillation.weight"] = LogUniform(low=0.1, high=4.0, when=distilled)
    return space


class SearchBudget(Spec):
    """Limits on what the search may cost; the first one that is reached ends it."""

    trials: int | None = Field(None, gt=0, le=1_000_000)
    """Number of trials, failed ones included."""
    epochs_per_trial: int | None = Field(None, gt=0, le=1_000_000)
    """Epochs of each trial; None takes the epochs of the job. The runs that end the search have the job's own."""
    hours: PositiveFloat | None = None
    """Hours of wall-clock time, over all resumptions; the trials leave as much of it as the runs at the end take."""
    total_epochs: PositiveInt | None = None
    """Epochs of all trials in total."""


class StartFrom(Spec):
    """Results and points that are known before the search starts."""

    points: tuple[Annotated[Params, OF_JOB], ...] = ()
    """Parameters to try first, by dotted name; names that a point leaves out are drawn."""
    search: str | None = None
    """Name of an earlier search: its best trial is tried first, and a searcher that learns (tpe, nsga2) starts from its
    results, as far as this space has their names and values."""


class Stop(Spec):
    """When the search stops before its budget is spent."""

    failures: PositiveInt = 5
    """Failed trials with the same kind of cause (out of memory, a bug, ...) after which the search ends; trials that
    were running then continue when it is resumed. Diverged trials count only as long as no trial has come to a result,
    and a search over arms never ends for failures, since an arm that fails does so on every seed."""
    stale_trials: PositiveInt | None = None
    """Trials in a row without a new best after which the search ends; None sets no limit."""


class SearchSpec(Spec):
    """A search over the fields of a job's spec."""

    elsewhere: ClassVar[str] = "is it a job? those are for: orchestrator plan FILE, orchestrator train FILE"

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,80}$")
    """Name of the search."""
    job: LocalPath
    """YAML file of the base job; a relative path starts at the current folder."""
    set: Annotated[Params, DOTTED, OF_JOB] = {}  # noqa: RUF012 (pydantic copies defaults)
    """Changes to the base job by dotted name, such as ``resources.workers: 1``."""
    space: Annotated[dict[str, DistributionSpec] | None, DOTTED, NamesOf(JobSpec, ("values", "value"))] = Field(
        None, min_length=1
    )
    """What is varied: dotted name of a field of the job -> distribution. None takes warmup, label smoothing, mixup and
    distillation."""
    arms: Arms | None = None
    """A few jobs to compare on equal seeds, instead of a space to search."""
    metric: str = "val/top1"
    """The metric that is optimised; never one of the test split."""
    mode: Mode = "max"
    """Whether a higher or a lower value is better."""
    objectives: tuple[Objective, ...] = ()
    """Several metrics instead of one, such as val/top1 max and seconds min: the search looks for their Pareto front."""
    searcher: SearcherSpec = TPE()
    """How configurations are chosen."""
    scheduler: SchedulerSpec = NoScheduler()
    """How trials are stopped early."""
    budget: SearchBudget = SearchBudget()
    """Limits on what the search may cost."""
    start_from: StartFrom = StartFrom()
    """Results and points that are known before the search starts."""
    stop: Stop = Stop()
    """When to stop before the budget is spent."""
    finish: bool = True
    """Whether the search ends with two runs of the job's own length, scored on the test split: the winner, and the job
    without any of the varied values."""
    max_concurrent: int | None = Field(None, gt=0, le=100_000)
    """Largest number of concurrent trials; None runs as many as the cluster has room for."""
    gpus_per_trial: float | None = Field(None, ge=0.01, le=1)
    """Share of a GPU, and of its memory, that a trial takes; None is a whole one."""
    logit_cache_mb: NonNegativeInt = 2048
    """Megabytes of teachers' logits that are kept for all trials under ORCHESTRATOR_HOME; 0 keeps none."""
    models_mb: NonNegativeInt = 4096
    """Megabytes of models of ended trials that are kept; the worst are deleted first, the best never."""
    seed: NonNegativeInt = 0
    """Seed of the searcher. All trials share the seeds of the job."""
    _begun_with: JobSpec | None = PrivateAttr(None)

    @property
    def goals(self) -> tuple[Objective, ...]:
        """What is optimised: the objectives, or the one metric; the first is what is reported on the way."""
        return self.objectives or (Objective(metric=self.metric, mode=self.mode),)

    @property
    def unfinished(self) -> str:
        """Why the search ends without training its winner and its job to their own length; empty if it does."""
        if self.arms is not None:
            return "arms are compared on seeds of their own"
        if len(self.goals) > 1:
            return "of several objectives there is no one winner; choose a trial from the front"
        return "" if self.finish else "finish is false"

    def begun_with(self, whole: JobSpec) -> Self:
        """The search over that job, at its own length, whatever has become of its file."""
        begun = self.model_copy()
        begun._begun_with = whole
        return begun

    def whole(self) -> JobSpec:
        """The job at its own length: for a search that has started, as its file was then.

        Raises:
            jobs.specfile.SpecError: the file or ``set`` is wrong.
        """
        return self._begun_with or self._read(self.set)

    def base(self) -> JobSpec:
        """The job that trials change: the whole one, but with ``budget.epochs_per_trial``.

        Where the whole job does not fit into so few epochs, its fields that every trial draws have their first ends: a
        warmup of 1 epoch in a trial of 1 epoch is no mistake where the space begins at 0.

        Raises:
            jobs.specfile.SpecError: the file or ``set`` is wrong.
        """
        if self.budget.epochs_per_trial is None:
            return self.whole()
        changes: dict[str, Any] = {"epochs": self.budget.epochs_per_trial}
        try:
            return self._changed(changes)
        except ValueError as error:
            drawn: dict[str, Any] = {"schedule.warmup_epochs": 0.0}  # as the space that null stands for
            if self.space is not None:
                drawn = {name: axis.ends()[0] for name, axis in self.space.items() if not axis.when}
            try:
                return self._changed(changes | drawn)
            except ValueError:
                if isinstance(error, SpecError):
                    raise SpecError(
                        replace(one, cures=self.cures(one.what, one.cures)) for one in error.problems
                    ) from None
                raise error from None

    def cures(self, what: str, cures: tuple[str, ...]) -> tuple[str, ...]:
        """What to do about a mistake; of one about the epochs of a trial, also where these come from."""
        epochs = self.budget.epochs_per_trial
        if epochs is None or not re.search(rf"\bepochs {epochs}\b", what):
            return cures
        return (*cures, f"budget.epochs_per_trial sets epochs to {epochs}: raise it, or lower the other side")

    def _changed(self, changes: Mapping[str, Any]) -> JobSpec:
        if self._begun_with is not None:
            return self._begun_with.override(dict(changes))
        return self._read({**self.set, **changes})

    def _read(self, changes: Mapping[str, Any]) -> JobSpec:
        try:
            return read(self.job, JobSpec, changes)
        except SpecError as error:
            problems = [
                replace(
                    problem,
                    source=problem.source.replace("-s ", "set "),
                    cures=tuple(re.sub(r"-s ('?)", r"-s \1set.", cure) for cure in problem.cures),
                )
                for problem in error.problems
            ]
            if not os.path.exists(self.job):
                where = f"it is the job of search {self.name}; relative paths begin at {os.getcwd()}"
                problems = [replace(problem, cures=(*problem.cures, where)) for problem in problems]
            raise SpecError(problems) from None

    def axes(self, base: JobSpec | None = None) -> dict[str, Distribution]:
        """The space: the one given, or that of the four axes; arms have none."""
        if self.arms is not None:
            return {}
        return dict(self.space) if self.space is not None else default_space(base or self.base())

    def build(self, base: JobSpec, points: tuple[Mapping[str, Any], ...] = ()) -> Searcher:
        """Who says what a trial runs; for ``points`` see :class:`tuning.searchers.Searcher`.

        Raises:
            ValueError: the searcher cannot search this space.
        """
        if self.arms is not None:
            return self.arms.build(base)
        return self.searcher.build(self.axes(base), base, self.seed, self.goals, points)

    def told(self, ordinal: int, params: Mapping[str, Any]) -> dict[str, Any]:
        """What distinguishes a trial from the others: its parameters, or its arm and seed."""
        return dict(params) if self.arms is None else dict(zip(("arm", "seed"), self.arms.place(ordinal), strict=True))

    def trial(self, params: dict[str, Any], base: JobSpec | None = None) -> JobSpec:
        """The job of a trial; ``base``, if it is at hand, spares reading the file.

        Raises:
            pydantic.ValidationError: the parameters do not make a job.
        """
        job = (base or self.base()).override(deepcopy(params))
        return job.model_copy(update={"checkpoint": self.scheduler.checkpoints(job.checkpoint)})

    def absolute(self) -> Self:
        """The search with absolute paths and its space spelled out, so that it means the same in another directory."""
        base = self.base()
        space, before, after = self.axes(base), base.flatten(), absolute(base).flatten()
        drawn = tuple(f"{name}." for name in space)
        moved = {
            name: after[name]
            for name in dict.fromkeys(found.name for found in paths(base))
            if before[name] != after[name] and not f"{name}.".startswith(drawn)
        }
        return absolute(self.model_copy(update={"set": {**self.set, **moved}, "space": space or None}))

    @model_validator(mode="after")
    def _metrics(self) -> Self:
        if not self.objectives:
            check_metric(self.metric, self.mode)
        elif len({objective.metric for objective in self.objectives}) < max(2, len(self.objectives)):
            raise ValueError("objectives must be two or more different metrics; for one, set metric and mode")
        elif (self.metric, self.mode) != ("val/top1", "max"):
            raise ValueError("objectives replace metric and mode: leave those out")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "epochs" in self.set and self.budget.epochs_per_trial is not None and self.unfinished:
            raise ValueError(
                "set.epochs and budget.epochs_per_trial say the same thing where the search does not end with runs of "
                f"the job's own length ({self.unfinished}): give one of them"
            )
        if self.objectives and self.scheduler.by_metric:
            raise ValueError(
                f"scheduler kind {self.scheduler.kind} goes by one metric, so with objectives it would stop trials "
                "that are on the front by another; take kind none"
            )
        if self.searcher.several and not self.objectives:
            raise ValueError(
                f"searcher kind {self.searcher.kind} is for several objectives; for one metric take kind tpe"
            )
        budget = self.budget
        if self.arms is not None:
            set_too: dict[str, object] = {
                "space": self.space,
                "start_from": self.start_from != StartFrom(),
                "objectives": self.objectives,
            }
            set_too |= {"budget.trials": budget.trials, "stop.stale_trials": self.stop.stale_trials}
            set_too["scheduler"] = self.scheduler.by_metric
            if wrong := [name for name, value in set_too.items() if value]:
                raise ValueError(f"arms say what runs, each to its end: leave {', '.join(wrong)} out")
            return self
        if not (budget.trials or budget.hours or budget.total_epochs or self.searcher.finite):
            raise ValueError("budget has no end: set budget.trials, budget.hours or budget.total_epochs")
        return self

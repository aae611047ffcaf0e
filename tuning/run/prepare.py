"""One preparation of a search: what its dry run shows is what it runs."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.spec import JobSpec
from orchestrator.execution import capacity
from orchestrator.execution.capacity import Cluster, Trials
from orchestrator.prepare import Prepared
from orchestrator.prepare import prepare as prepare_job
from tuning.spec.objective import check_class
from tuning.spec.search import SearchSpec


@dataclass(frozen=True)
class PreparedSearch:
    """A search that was checked, with all that is known of it before any trial starts.

    Attributes:
        spec: the search.
        job: the job that its trials change.
        trials: how many run at a time.
    """

    spec: SearchSpec
    job: Prepared
    trials: Trials

    @property
    def base(self) -> JobSpec:
        """The job as it is kept with each trial, with ``use_gpu`` decided."""
        return self.job.spec.model_copy(update={"resources": self.job.ready.resources})

    @property
    def problem(self) -> str | None:
        """Why the cluster cannot hold a single trial, with the arithmetic; None where it can."""
        if self.job.fit.problem is not None or self.trials.count:
            return self.job.fit.problem
        return None if self.job.cluster.grows else f"not even one trial fits: {self.trials.why}"


def prepare(spec: SearchSpec, cluster: Cluster, trains: bool = False) -> PreparedSearch:
    """Check a search over its opened data and find out how many trials run at a time; nothing is started.

    Args:
        spec: the search.
        cluster: where it is to run.
        trains: whether it runs next, see :func:`orchestrator.prepare.prepare`.

    Raises:
        ValueError: the data, the weights, the network or the teacher do not fit the job, or a metric not the classes.
    """
    job = prepare_job(spec.base(), cluster, varied=True, trains=trains)
    for goal in spec.goals:
        check_class(goal.metric, job.data.classes)
    need, share = job.ready.resources, spec.gpus_per_trial or 1.0
    if share < 1 and need.most > 1 and job.fit.use_gpu:
        raise ValueError(
            f"gpus_per_trial {share:g} is for trials of one worker: each of {need.most} workers takes a whole GPU; "
            "leave it out, or set set.resources.workers: 1"
        )
    found = capacity.trials(need, job.fit.use_gpu, share, spec.max_concurrent, cluster)
    return PreparedSearch(spec, job, found)

"""Submit a job or a search to a cluster: everything is checked here first, so that what is wrong never leaves."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.cluster import client as clusters
from orchestrator.cluster import shipping
from orchestrator.cluster.client import Cluster, Job
from orchestrator.cluster.preflight import Asked, check_room
from orchestrator.cluster.shipping import Shipment
from orchestrator.runs.origin import DIRTY, REVISION
from orchestrator.runs.resume import NAME

_BASE = 58  # letters of a spec's name in an id, which has room for 81


@dataclass(frozen=True)
class Submitted:
    """What came of it.

    Attributes:
        job: the job, new or found.
        new: whether it was sent now.
        remarks: what is worth knowing.
        before: the attempt that this one follows, if any.
    """

    job: Job
    new: bool
    remarks: list[str] = field(default_factory=list)
    before: Job | None = None


def new_id(asked: Asked) -> str:
    """A fresh id: the spec's name and the time."""
    name = str(getattr(asked.spec, "name", "job"))[:_BASE]
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def submit(
    asked: Asked,
    cluster: Cluster,
    shipment: Shipment,
    id: str | None = None,
    variables: shipping.Variables | None = None,
    options: Sequence[str] = (),
) -> Submitted:
    """Submit, unless ``id`` is at work or done already.

    Args:
        asked: what.
        cluster: where.
        shipment: what is sent.
        id: name of the run. Where its last job failed or was stopped, another is submitted that resumes the run;
            None takes a fresh one.
        variables: of the job's environment.
        options: words of the command that resumes it, besides the spec, its overrides and the id.

    Raises:
        ValueError: the cluster cannot hold it, or ``id`` is another job's.
        ClusterError: the cluster is silent, or refuses.
    """
    told = variables or shipping.variables((), 60)
    run = new_id(asked) if id is None else id
    if not NAME.fullmatch(run):
        raise ValueError(f"--id {run!r} is not a valid name for a run: letters, digits, dots, - and _, at most 81")
    attempts = [job for job in cluster.jobs() if job.run == run or job.id == run] if id else []
    last = attempts[0] if attempts else None
    if last and (not last.over or last.state == "SUCCEEDED"):
        if last.about.get(clusters.DIGEST) != asked.digest:
            raise ValueError(
                f"--id {run} is {last.state} already, with another spec or other overrides ({last.entrypoint}); take "
                "another id"
            )
        return Submitted(last, False)
    remarks = [*check_room(asked.job, cluster.room()), *told.remarks]
    submission = run if not attempts else f"{run}-{len(attempts) + 1}"
    about = {
        clusters.RUN: run,
        clusters.KIND: asked.kind.name,
        clusters.DIGEST: asked.digest,
        clusters.NEED: asked.need,
        clusters.AGAIN: asked.again(run, options),
        clusters.TRACKING: asked.job.tracking.uri or told.values.get("MLFLOW_TRACKING_URI", ""),
        clusters.WAIT: told.values[shipping.STOP_WAIT],
        "revision": told.values.get(REVISION, ""),
        "revision.dirty": told.values.get(DIRTY, ""),
    }
    try:
        cluster.client.submit_job(
            entrypoint=asked.entrypoint(run),
            submission_id=submission,
            runtime_env=shipment.runtime_env(told.values),
            metadata={name: value for name, value in about.items() if value},
        )
    except Exception as error:
        found = [job for job in cluster.jobs() if job.id == submission]
        if found:  # somebody else was faster
            return Submitted(found[0], False)
        raise clusters.ClusterError(f"the cluster did not take the job: {str(error)[:500]}") from None
    return Submitted(cluster.find_id(submission), True, remarks, last)

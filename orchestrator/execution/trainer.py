"""A job on Ray Train: a group of workers trains it, and trains on where any of them, a node or the controller died."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from jobs.spec import JobSpec
from orchestrator.execution import nodes
from orchestrator.execution.answer import STOPPED, Answer
from orchestrator.execution.group import GroupError, Groups, Listener

if TYPE_CHECKING:
    from orchestrator.execution.worker import Assignment


def fit_with_train(
    spec: JobSpec,
    job: Assignment,
    groups: Groups,
    tell: Callable[[str, bool], None] = lambda text, lasting: None,
    listener: Listener | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Answer:
    """Rank 0's answer (see ``orchestrator.execution.worker.work``), or why there is none.

    An elastic job is trained by as many workers as there is room for. When there is room for more, it pauses at a
    checkpoint and resumes with them. So does any job when a node of its workers is about to be taken away.

    Args:
        spec: the job; its teacher and its pretrained weights, if any, are folders, and ``use_gpu`` is decided.
        job: the same for the workers, its run open; the spec is replaced by that for their number.
        groups: the workers at hand.
        tell: called with a message, and whether it is worth keeping.
        listener: takes what the job's report says to it.
        stopped: whether nobody wants it any more, besides what the recorder knows.
    """
    need, sizes, recorders, run = spec.resources, spec.sizes, job.recorders, job.run
    failures, seen, before = 0, 0, 0

    def over() -> bool:
        return stopped() or recorders.state(run).stopping

    while True:
        known = nodes.alive()
        try:
            size = groups.size(need, sizes) or nodes.room(need, sizes, over, tell)
        except TimeoutError as error:
            return Answer.of(error, str(error))
        if size is None:
            return Answer(STOPPED)
        if size != before and len(sizes) > 1:
            tell(f"training with {size} of {need.most} workers", True)
            recorders.tag(run, "workers", str(size), wait=False)
        before = size
        larger = [other for other in sizes if other > size]
        group = groups.of(size, need, run, spec.checkpoint.storage)
        watch = nodes.Watch(need, larger[-1] - size if larger else 0, group.placement, lambda: recorders.pause(run))
        failed = None
        try:
            answer = group.run(replace(job, spec=spec.trained_by(size).model_dump_json()), listener)
        except GroupError as error:
            failed = Answer.of(error, _first_cause(error.__cause__ or error))
        finally:
            watch.end()
            recorders.unpause(run)
        lost = not known <= nodes.alive()
        if watch.found or lost or (failed is not None and len(sizes) > 1):
            groups.close()  # it has to be elsewhere, or of another size
        if failed is None:
            if not (answer.ended_by == STOPPED and watch.found and not over()):
                return answer
            continue
        so_far = recorders.state(run).seen
        if not lost:
            failures = 1 if so_far > seen else failures + 1
        if failures > need.max_failures or failed.kind == "disk":
            return failed
        seen = so_far
        tell(f"beginning again from the newest checkpoint, since {failed.cause}", True)


def _first_cause(error: BaseException) -> str:
    """The failure of the lowest rank that has one, in one line."""
    failures = getattr(error, "worker_failures", None) or {}
    for rank, failure in sorted(failures.items()):
        inner = getattr(failure, "cause", None) or failure
        return f"rank {rank}: {str(inner).strip().splitlines()[-1]}"
    error = getattr(error, "controller_failure", error)
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"

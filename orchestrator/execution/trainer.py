"""A job on Ray Train: workers are started, and begun again where any of them, a node or the controller died."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.spec import JobSpec
from orchestrator.execution import nodes
from orchestrator.execution.answer import NO_ANSWER, STOPPED, Answer
from orchestrator.home import home
from orchestrator.runs import storage
from orchestrator.tracking.client import RecorderClient

if TYPE_CHECKING:
    from ray import ObjectRef

    from jobs.data.sets import Data
    from orchestrator.execution.worker import LogitSettings


def fit_with_train(
    spec: JobSpec,
    run: str,
    data: ObjectRef[Data],
    recorders: RecorderClient,
    logits: LogitSettings | None = None,
    tell: Callable[[str, bool], None] = lambda text, lasting: None,
) -> Answer:
    """Rank 0's answer (see ``orchestrator.execution.worker.work``), or why there is none.

    An elastic job is trained by as many workers as there is room for. When there is room for more, it pauses at a
    checkpoint and resumes with them. So does any job when a node of its workers is about to be taken away.

    Args:
        spec: the job; its teacher and its pretrained weights, if any, are folders, and ``use_gpu`` is decided.
        run: name of its run, which ``recorders`` has open.
        data: a reference to the opened data.
        recorders: client of the recorder.
        logits: see ``orchestrator.execution.worker.work``.
        tell: called with a message, and whether it is worth keeping.
    """
    import ray

    need, sizes = spec.resources, spec.sizes
    failures, seen, before = 0, 0, 0
    while True:
        known = nodes.alive()
        try:
            size = nodes.room(need, sizes, lambda: recorders.state(run).stopping, tell)
        except TimeoutError as error:
            return Answer.of(error, str(error))
        if size is None:
            return Answer(STOPPED)
        if size != before and len(sizes) > 1:
            tell(f"training with {size} of {need.most} workers", True)
            recorders.tag(run, "workers", str(size), wait=False)
        before = size
        larger = [other for other in sizes if other > size]
        watch = nodes.Watch(
            need,
            larger[-1] - size if larger else 0,
            lambda: recorders.occupied(run),
            lambda: recorders.pause(run),
        )
        failed = None
        try:
            answer = _fit(spec.trained_by(size), run, data, recorders, logits)
        except Exception as error:
            failed = Answer.of(error, _first_cause(error))
        else:
            if not (answer.ended_by == STOPPED and watch.found and not recorders.state(run).stopping):
                return answer
        finally:
            watch.end()
            recorders.unpause(run)
            group = recorders.vacate(run)
            if group is not None:  # Ray frees it itself, but not where the controller died
                ray.util.remove_placement_group(group)
        if failed is None:
            continue
        so_far = recorders.state(run).seen
        if known <= nodes.alive():  # else a node was lost
            failures = 1 if so_far > seen else failures + 1
        if failures > need.max_failures or failed.kind == "disk":
            return failed
        seen = so_far
        tell(f"beginning again from the newest checkpoint, since {failed.cause}", True)


def _fit(
    spec: JobSpec, run: str, data: ObjectRef[Data], recorders: RecorderClient, logits: LogitSettings | None
) -> Answer:
    """Rank 0's answer of one group of workers, none of which is replaced."""
    from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.result import Result
    from ray.train.v2.torch.torch_trainer import TorchTrainer

    from orchestrator.execution import network
    from orchestrator.execution.worker import Assignment, ray_train_worker

    need = spec.resources
    trainer = TorchTrainer(
        ray_train_worker,
        train_loop_config={"assignment": Assignment(spec.model_dump_json(), data, recorders, run, logits, str(home()))},
        torch_config=network.Torch(backend="nccl" if need.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=need.most, use_gpu=bool(need.use_gpu), resources_per_worker=nodes.bundle(need)
        ),
        run_config=RunConfig(
            name=f"{run}-{secrets.token_hex(3)}",  # Ray silently continues a name it has seen
            **storage.for_ray(run, spec.checkpoint.storage),
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0, controller_failure_limit=0),
        ),
    )
    result: Result = trainer.fit()  # type: ignore[assignment]  # Ray types it as that of an older Ray Train
    return result.return_value or NO_ANSWER


def _first_cause(error: BaseException) -> str:
    """The failure of the lowest rank that has one, in one line."""
    failures = getattr(error, "worker_failures", None) or {}
    for rank, failure in sorted(failures.items()):
        inner = getattr(failure, "cause", None) or failure
        return f"rank {rank}: {str(inner).strip().splitlines()[-1]}"
    error = getattr(error, "controller_failure", error)
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"

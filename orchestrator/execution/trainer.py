"""A job on Ray Train: workers are started, and begun again where any of them, a node or the controller died."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from jobs.spec import JobSpec
from orchestrator.execution import nodes
from orchestrator.home import home
from orchestrator.runs import storage


def fit_with_train(
    spec: JobSpec,
    run: str,
    data: Any,
    recorders: Any,
    logits: Mapping[str, Any] | None = None,
    tell: Callable[[str, bool], None] = lambda text, lasting: None,
) -> dict[str, Any]:
    """Rank 0's answer (see ``orchestrator.execution.worker.work``), or the ``failure``.

    An elastic job is trained by as many workers as there is room for. When there comes to be room for more, it leaves
    off at a checkpoint, and goes on with them. So does any job when a node of its workers is about to be taken away.

    Args:
        spec: the job; its teacher and its pretrained weights, if any, are folders, and ``use_gpu`` is decided.
        run: name of its run, which ``recorders`` has open.
        data: a reference to the opened data.
        recorders: handle of the actor.
        logits: where a teacher's answers are kept, see ``orchestrator.execution.worker.work``.
        tell: called with what is worth knowing, and whether it is worth keeping.
    """
    import ray

    need, sizes = spec.resources, spec.sizes
    failures, seen, before = 0, 0, 0
    while True:
        known = nodes.alive()
        try:
            size = nodes.room(need, sizes, lambda: ray.get(recorders.state.remote(run)).stopping, tell)
        except TimeoutError as error:
            return {"failure": str(error)}
        if size is None:
            return {"ended_by": "stopped"}
        if size != before and len(sizes) > 1:
            tell(f"training with {size} of {need.most} workers", True)
            recorders.tag.remote(run, "workers", str(size))
        before = size
        larger = [other for other in sizes if other > size]
        watch = nodes.Watch(
            need,
            larger[-1] - size if larger else 0,
            lambda: ray.get(recorders.occupied.remote(run)),
            lambda: recorders.pause.remote(run),
        )
        try:
            answer: dict[str, Any] = _fit(spec.trained_by(size), run, data, recorders, logits) or {}
        except Exception as error:
            cause = _first_cause(error)
        else:
            stopping = ray.get(recorders.state.remote(run)).stopping
            if not (answer.get("ended_by") == "stopped" and watch.found and not stopping):
                return answer
            cause = None
        finally:
            watch.end()
            ray.get(recorders.go_on.remote(run))
            group = ray.get(recorders.vacate.remote(run))
            if group is not None:  # Ray frees it itself, but not where the controller died
                ray.util.remove_placement_group(group)
        if cause is None:
            continue
        so_far = ray.get(recorders.state.remote(run)).seen
        if known <= nodes.alive():  # else a node was lost
            failures = 1 if so_far > seen else failures + 1
        if failures > need.max_failures:
            return {"failure": cause}
        seen = so_far
        tell(f"beginning again from the newest checkpoint, since {cause}", True)


def _fit(spec: JobSpec, run: str, data: Any, recorders: Any, logits: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Rank 0's answer of one group of workers, none of which is replaced."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from orchestrator.execution import network
    from orchestrator.execution.worker import ray_train_worker

    need = spec.resources
    trainer = TorchTrainer(
        ray_train_worker,
        train_loop_config={
            "spec": spec.model_dump_json(),
            "data": [data],
            "recorders": recorders,
            "run": run,
            "logits": logits,
            "home": str(home()),
        },
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
    return trainer.fit().return_value  # type: ignore[no-any-return]


def _first_cause(error: BaseException) -> str:
    """The failure of the lowest rank that tells what happened, in one line."""
    failures = getattr(error, "worker_failures", None) or {}
    for rank, failure in sorted(failures.items()):
        inner = getattr(failure, "cause", None) or failure
        return f"rank {rank}: {str(inner).strip().splitlines()[-1]}"
    error = getattr(error, "controller_failure", error)
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"

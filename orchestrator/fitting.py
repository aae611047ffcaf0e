"""A job on Ray Train: workers are started, replaced when they die, and so is the controller that watches them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from jobs.spec import JobSpec
from orchestrator.home import home


def fit_with_train(
    spec: JobSpec, run: str, data: Any, recorders: Any, logits: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Rank 0's answer (see ``orchestrator.worker.work``), or the ``failure``.

    Args:
        spec: the job; its teacher and its pretrained weights, if any, are folders, and ``use_gpu`` is decided.
        run: name of its run, which ``recorders`` has open.
        data: a reference to the opened data.
        recorders: handle of the actor.
        logits: where a teacher's answers are kept, see ``orchestrator.worker.work``.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from orchestrator.worker import ray_train_worker

    need = spec.resources
    failures = 0
    while True:
        trainer = TorchTrainer(
            ray_train_worker,
            train_loop_config={
                "spec": spec.model_dump_json(),
                "data": [data],
                "recorders": recorders,
                "run": run,
                "logits": logits,
            },
            torch_config=TorchConfig(backend="nccl" if need.use_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=need.workers,
                use_gpu=bool(need.use_gpu),
                resources_per_worker={"CPU": need.cpus_per_worker} | ({"GPU": 1} if need.use_gpu else {}),
            ),
            run_config=RunConfig(
                name=f"{run}-{secrets.token_hex(3)}",  # Ray silently continues a name it has seen
                storage_path=str(home() / "ray"),
                failure_config=FailureConfig(max_failures=need.max_failures, controller_failure_limit=3),
            ),
        )
        try:
            return trainer.fit().return_value or {}
        except ray.exceptions.RayActorError as error:  # the controller died; the checkpoints are ours, so go on
            failures += 1
            if failures > need.max_failures:
                return {"failure": f"the Ray Train controller died {failures} times: {error}"}
            group = ray.get(recorders.occupied.remote(run))
            if group is not None:
                ray.util.remove_placement_group(group)
        except Exception as error:
            return {"failure": _first_cause(error)}


def _first_cause(error: BaseException) -> str:
    """The failure of the lowest rank that tells what happened, in one line."""
    failures = getattr(error, "worker_failures", None) or {}
    for rank, failure in sorted(failures.items()):
        inner = getattr(failure, "cause", None) or failure
        return f"rank {rank}: {str(inner).strip().splitlines()[-1]}"
    error = getattr(error, "controller_failure", error)
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"

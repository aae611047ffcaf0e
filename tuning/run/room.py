"""How many trials run at a time on the cluster at hand."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.spec import JobSpec
from orchestrator.execution import launch
from tuning.spec.search import SearchSpec


@dataclass(frozen=True)
class Room:
    """What a search has room for.

    Attributes:
        trials: at a time.
        why: the arithmetic.
    """

    trials: int
    why: str


def room(spec: SearchSpec, base: JobSpec) -> Room:
    """How many trials run at a time on the cluster at hand.

    Raises:
        ValueError: not even one fits.
    """
    import ray

    launch.fit(base)
    total, need = ray.cluster_resources(), base.resources
    cpus = total.get("CPU", 0.0)
    each = need.most * need.cpus_per_worker
    fit, why = int(cpus / each + 1e-9), f"{cpus:g} CPUs / ({need.most} workers x {need.cpus_per_worker:g})"
    if need.use_gpu:
        gpus, share = total.get("GPU", 0.0), spec.gpus_per_trial or 1.0
        by_gpu = int(gpus / (need.most * share) + 1e-9)
        if by_gpu < fit:
            fit, why = by_gpu, f"{gpus:g} GPUs / ({need.most} workers x {share:g})"
    if fit < 1:
        raise ValueError(f"not even one trial fits: {why} = {fit}; lower set.resources.workers")
    if spec.max_concurrent is not None and spec.max_concurrent < fit:
        fit, why = spec.max_concurrent, "max_concurrent"
    return Room(fit, why)

"""What a cluster can hold: workers of a job and trials of a search, in one place for dry runs, runs and submissions."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace

from jobs import allowed
from jobs.resources import Resources
from jobs.spec import JobSpec

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Node:
    """CPUs and whole GPUs of one machine."""

    name: str
    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """The machines that a job may use.

    Attributes:
        nodes: those that are up.
        where: words that name the cluster in a sentence, such as "here".
        later: CPUs and GPUs in all once its autoscaler has started what it may, where that is known and more.
        grows: whether an autoscaler may start more nodes.
        live: whether this process is connected to it.
    """

    nodes: tuple[Node, ...]
    where: str = "in the cluster"
    later: tuple[float, float] = (0.0, 0.0)
    grows: bool = False
    live: bool = False

    @classmethod
    def at_hand(cls) -> Cluster:
        """The cluster that this process is connected to, or joins by ``RAY_ADDRESS``; else this machine, see
        :meth:`here`."""
        from orchestrator.execution.session import named, start_ray

        if named():
            start_ray()
        if "ray" in sys.modules and sys.modules["ray"].is_initialized():
            return cls.joined()
        return cls.here()

    @classmethod
    def here(cls) -> Cluster:
        """This machine with all of it that this process may use, or the cluster of ``orchestrator up`` where it joins
        that."""
        from torch.cuda import device_count

        from orchestrator.execution.session import joins

        if (found := joins()) is not None:
            cpus, where = found.cpus, "in the cluster of orchestrator up"
        else:
            cpus = allowed.cpus()
            where = "here" if cpus == (os.cpu_count() or 1) else "that this process may use here"
        return cls((Node("this machine", float(cpus), float(device_count())),), where)

    @classmethod
    def joined(cls) -> Cluster:
        """The cluster that this process is connected to."""
        import ray
        from ray._private.state import state  # the one place that knows what an autoscaler may start; nothing public

        alive = [node for node in ray.nodes() if node["Alive"]]
        nodes = tuple(
            Node(node["NodeManagerAddress"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
            for node in alive
        )
        most = state.get_max_resources_from_cluster_config() or {}
        later = float(most.get("CPU", 0)), float(most.get("GPU", 0))
        cluster = cls(nodes, f"in the cluster of {len(nodes)} node{'s' if len(nodes) > 1 else ''}", later, live=True)
        return replace(cluster, grows=later[0] > cluster.cpus or later[1] > cluster.gpus)

    @property
    def cpus(self) -> float:
        """CPUs of all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)

    def places(self, cpus: float, gpus: float = 0.0) -> int:
        """Workers that fit at once; a worker has all of its CPUs on one node, and its share on one GPU."""
        return sum(_places(node, cpus, gpus) for node in self.nodes)


def _places(node: Node, cpus: float, gpus: float) -> int:
    by_cpu = int(node.cpus / cpus + _ROUNDING)
    return min(by_cpu, int(node.gpus + _ROUNDING) * int(1 / gpus + _ROUNDING)) if gpus else by_cpu


@dataclass(frozen=True)
class Fit:
    """Whether a cluster can hold a job.

    Attributes:
        use_gpu: whether its workers get a GPU each.
        problem: why it cannot, with the arithmetic; None where it can.
        remark: what it has to wait for; empty where it can start at once.
    """

    use_gpu: bool
    problem: str | None = None
    remark: str = ""


def fit(spec: JobSpec, cluster: Cluster) -> Fit:
    """Whether the cluster can hold the fewest workers that the job trains with; ``use_gpu: auto`` is decided."""
    need, workers = spec.resources, spec.sizes[-1]
    cpus, gpus = max(cluster.cpus, cluster.later[0]), max(cluster.gpus, cluster.later[1])
    use_gpu = need.use_gpu is True
    if need.use_gpu == "auto":
        use_gpu = cluster.places(need.cpus_per_worker, 1.0) >= workers or (cluster.grows and gpus >= workers)
    has = f"there are {cpus:g} CPUs and {gpus:g} GPUs {cluster.where}"
    cure = "lower resources.workers or resources.cpus_per_worker, or add nodes"
    each = f"{need.cpus_per_worker:g} CPUs{' and 1 GPU' if use_gpu else ''}"
    places = cluster.places(need.cpus_per_worker, float(use_gpu))
    if places >= workers:
        return Fit(use_gpu)
    if (wanted := workers * need.cpus_per_worker) > cpus:
        problem = f"{workers} workers x {need.cpus_per_worker:g} CPUs = {wanted:g} CPUs, but {has}"
    elif use_gpu and workers > gpus:
        problem = f"{workers} workers x 1 GPU = {workers} GPUs, but {has}"
        cure = "lower resources.workers or set resources.use_gpu: auto"
    else:
        rooms = ", ".join(
            f"{_places(node, need.cpus_per_worker, float(use_gpu))} on {node.name} ({node.cpus:g} CPUs, "
            f"{node.gpus:g} GPUs)"
            for node in cluster.nodes
        )
        problem = f"{workers} workers of {each}, each on one node, but there is room for {places}: {rooms}"
        if cluster.grows:  # its later nodes may hold the rest
            return Fit(use_gpu, None, f"{problem}; the autoscaler may start more nodes, and the job waits for them")
    if cluster.grows and not any(cluster.later):  # nothing says how much more there may be
        return Fit(use_gpu, None, f"{problem}; the autoscaler may start more nodes, and the job waits for them")
    return Fit(use_gpu, f"{problem}; {cure}")


@dataclass(frozen=True)
class Trials:
    """How many trials of a search run at a time.

    Attributes:
        count: 0 where not even one fits.
        why: the arithmetic.
    """

    count: int
    why: str


def trials(need: Resources, use_gpu: bool, share: float, most: int | None, cluster: Cluster) -> Trials:
    """How many trials run at a time.

    A trial of one worker takes ``share`` of a GPU; a trial of several takes a whole GPU for each worker.

    Args:
        need: of the job that trials change.
        use_gpu: whether its workers get GPUs.
        share: of a GPU, for a trial of one worker.
        most: the search's own limit; None is none.
        cluster: where they run.
    """
    gpus = (share if need.most == 1 else 1.0) * use_gpu
    places = cluster.places(need.cpus_per_worker, gpus)
    count = places // need.most
    each = f"{need.cpus_per_worker:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")
    why = f"room for {places} workers of {each} {cluster.where}, {need.most} a trial"
    if most is not None and most < count:
        return Trials(most, f"max_concurrent; {why}")
    return Trials(count, why)

"""The machines of a Ray cluster: the number of workers that they have room for, and whether they see the same files."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.resources import Resources
from jobs.urls import is_url, local
from orchestrator.execution.capacity import Cluster
from orchestrator.home import home
from orchestrator.runs.storage import check

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

GRACE_S = 4.0
"""How long resources that are given back are waited for before fewer workers are taken; Ray needs some seconds."""
_LOOK_S, _WATCH_S, _ANSWER_S = 1, 1.0, 120.0  # Ray waits for whole seconds, and half a second is none
_PROBE = ".probe"


def bundle(need: Resources) -> dict[str, float]:
    """What one worker takes; ``use_gpu`` is decided."""
    return {"CPU": need.cpus_per_worker} | ({"GPU": 1} if need.use_gpu else {})


def alive() -> set[str]:
    """Ids of the nodes that answer."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def room(
    need: Resources, sizes: Sequence[int], stopped: Callable[[], bool], tell: Callable[[str, bool], None]
) -> int | None:
    """The largest number of workers that the cluster has room for.

    Waits ``need.wait_minutes`` for room for the fewest; an autoscaler sees what is waited for.

    Args:
        need: of the job; ``use_gpu`` is decided.
        sizes: numbers to choose from, the largest first.
        stopped: whether nobody wants it any more.
        tell: told when it takes long.

    Returns:
        One of ``sizes``; None where ``stopped``.

    Raises:
        TimeoutError: there was no room for the fewest.
    """
    for size in sizes[:-1]:
        if _conceivable(need, size) and _wait(need, size, GRACE_S, stopped):
            return size
    least = sizes[-1]
    if _wait(need, least, GRACE_S, stopped):
        return least
    each = " and ".join(f"{count:g} {kind}" for kind, count in bundle(need).items())
    if not stopped():
        tell(f"waiting for room for {least} workers of {each} each, {need.wait_minutes:g} minutes at most", True)
        if _wait(need, least, need.wait_minutes * 60, stopped):
            return least
    if stopped():
        return None
    raise TimeoutError(
        f"the cluster had no room for {least} workers of {each} each in {need.wait_minutes:g} minutes; free some, "
        "lower resources.workers, or raise resources.wait_minutes"
    )


def _conceivable(need: Resources, workers: int) -> bool:
    """Whether there would be room for so many workers if the cluster did nothing else; not where a node was lost."""
    cluster = Cluster.joined()
    there = {"CPU": max(cluster.cpus, cluster.later[0]), "GPU": max(cluster.gpus, cluster.later[1])}
    return all(there[kind] >= count * workers for kind, count in bundle(need).items())


def _wait(need: Resources, workers: int, seconds: float, stopped: Callable[[], bool]) -> bool:
    """Whether there is room for so many workers before the time is over."""
    group = _group(need, workers)
    until = time.monotonic() + seconds
    try:
        while not stopped():
            if group.wait(_LOOK_S):
                return True
            if time.monotonic() >= until:
                return False
        return False
    finally:
        _remove(group)


def has_room(need: Resources, workers: int) -> bool:
    """Whether the cluster has room for so many workers now."""
    return _wait(need, workers, 0.0, lambda: False)


class Watch:
    """Looks for a reason to begin again elsewhere: room for more workers, which it then holds, or a worker's node that
    is about to be taken away.

    Args:
        need: of the job.
        more: workers to find room for; 0 looks for none.
        group: gives the placement group of the job's workers; None before there is one.
        found: called, once, when there is a reason.
    """

    def __init__(
        self, need: Resources, more: int, group: Callable[[], PlacementGroup | None], found: Callable[[], None]
    ) -> None:
        self.found = False
        self._need, self._wanted = need, more
        self._more: PlacementGroup | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(group, found), name="watch", daemon=True)
        self._thread.start()

    def _watch(self, group: Callable[[], PlacementGroup | None], found: Callable[[], None]) -> None:
        while not self._ended.wait(_WATCH_S):
            workers = group()
            if workers is None:  # not yet there: what is asked for now might take their place
                continue
            if self._wanted and self._more is None:
                self._more = _group(self._need, self._wanted)
            if (self._more is not None and self._more.wait(0)) or _leaving(workers):
                self.found = True
                found()
                return

    def end(self) -> None:
        """Give what is held back."""
        self._ended.set()
        self._thread.join()
        if self._more is not None:
            _remove(self._more)


def _leaving(group: PlacementGroup) -> bool:
    """Whether a node that holds part of a placement group is being drained, as one is before it is preempted."""
    import ray
    from ray._private.state import state

    drained = state.get_draining_nodes()
    return bool(drained) and any(
        node in drained for node in ray.util.placement_group_table(group)["bundles_to_node_id"].values()
    )


def _group(need: Resources, workers: int) -> PlacementGroup:
    import ray

    group: PlacementGroup = ray.util.placement_group([bundle(need)] * workers, strategy="PACK")
    return group


def _remove(group: PlacementGroup) -> None:
    import ray

    ray.util.remove_placement_group(group)


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """The scheduling strategy of an actor that must live where its driver does."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def check_shared(storage: str | None) -> None:
    """See that all nodes reach what a run writes.

    Args:
        storage: the job's ``checkpoint.storage``; None is ORCHESTRATOR_HOME.

    Raises:
        ValueError: there are nodes that do not see it, or it cannot be written to.
    """
    check(storage)
    if (storage is not None and is_url(storage)) or len(alive()) < 2:
        return
    if storage is not None and (strangers := blind(Path(local(storage)))):
        raise ValueError(
            f"checkpoint.storage is {storage}, which {', '.join(strangers)} cannot see; set it to a folder on a disk "
            "that all nodes share, or to a bucket (s3://bucket/folder)"
        )
    if storage is None and (strangers := blind(home())):
        raise ValueError(
            f"ORCHESTRATOR_HOME is {home()}, which {', '.join(strangers)} cannot see, so a worker there could not "
            "write checkpoints that another reads; set it to a folder on a disk that all nodes share, or "
            "checkpoint.storage to one or to a bucket (s3://bucket/folder)"
        )


def blind(folder: Path) -> list[str]:
    """Names of the live nodes that do not see what this process writes to ``folder``.

    Raises:
        ConnectionError: a node does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = folder / f"{_PROBE}-{uuid.uuid4().hex}"
    probe.touch()
    try:
        sees = ray.remote(num_cpus=0, max_retries=0)(_sees)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        asked = {
            sees.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                str(probe)
            ): node["NodeManagerHostname"]
            for node in nodes
        }
        answers, late = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_S)
        if late:
            raise ConnectionError(
                f"{', '.join(sorted(asked[each] for each in late))} did not answer in {_ANSWER_S:g} s whether it sees "
                f"{folder}; see that the node is well (ray status) and that its disks answer, and try again"
            )
        return sorted(asked[each] for each in answers if not ray.get(each))
    finally:
        probe.unlink(missing_ok=True)


def _sees(path: str) -> bool:
    return Path(path).exists()

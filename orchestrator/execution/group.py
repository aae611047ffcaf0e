"""A group of Ray Train workers: started without a job, it trains one job after the other and stays warm in between.

Processes, their imports, the process group, data and caches stay; a job is a message (``orchestrator.execution.member``
is what the workers run).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobs.resources import Resources
from orchestrator.execution import nodes
from orchestrator.execution.answer import Answer
from orchestrator.home import home
from orchestrator.runs import storage

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

    from orchestrator.execution.worker import Assignment

_END_S = 10.0
Listener = Callable[[Any], bool]
"""Takes what a job's rank 0 says; returns whether the job is to stop."""


class GroupError(RuntimeError):
    """The workers of a group failed, or did not start; its cause is Ray's error."""


class Group:
    """Workers that are being started, or wait for a job, or train one.

    Args:
        workers: how many.
        need: of each; ``use_gpu`` is decided.
        run: name of the first run that they train.
        where: its ``checkpoint.storage``; Ray Train keeps notes of its own there.
        lasting: the process of the group's owner may die without the driver, which has to be noticed.
    """

    def __init__(self, workers: int, need: Resources, run: str, where: str | None, lasting: bool) -> None:
        self.workers, self.bundle, self.where, self._threads = workers, nodes.bundle(need), where, need.threads
        self.name = f"{run}-{secrets.token_hex(3)}"  # Ray silently continues a name it has seen
        self.failed = False
        self._lasting, self._given = lasting, storage.for_ray(run, where)
        self._started = threading.Event()
        self._controller: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._fit, name="group", daemon=True)
        self._thread.start()

    def _fit(self) -> None:
        from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig

        from orchestrator.execution import network
        from orchestrator.execution.controller import GroupTrainer
        from orchestrator.execution.member import serve

        def started(controller: Any) -> None:
            self._controller = controller
            self._started.set()

        gpu = bool(self.bundle.get("GPU"))
        try:
            trainer = GroupTrainer(
                started,
                self._lasting,
                train_loop_per_worker=serve,
                train_loop_config={"home": str(home()), "gpu": gpu, "threads": self._threads},
                backend_config=network.Meeting(),
                scaling_config=ScalingConfig(
                    num_workers=self.workers, use_gpu=gpu, resources_per_worker=self.bundle, placement_strategy="PACK"
                ),
                run_config=RunConfig(
                    name=self.name,
                    **self._given,
                    failure_config=FailureConfig(
                        max_failures=-1, max_preemption_failures=0, controller_failure_limit=0
                    ),
                ),
            )
            trainer.fit()
        except BaseException as error:
            self._error = error
        self._started.set()

    @property
    def alive(self) -> bool:
        """Whether it can be given jobs."""
        return self._thread.is_alive()

    def run(self, job: Assignment, listener: Listener | None = None) -> Answer:
        """Train a job; its answer. Workers that failed are started again first.

        Args:
            job: what to train.
            listener: takes what the job's report says to it.

        Raises:
            GroupError: a worker failed, or the group is no more.
        """
        import ray
        from ray.exceptions import RayActorError

        try:
            controller = self._at_work()
            if self.failed:
                ray.get(controller.restart.remote())
                self.failed = False
            ray.get(controller.give.remote(job))
            while True:
                kind, what = ray.get(controller.hear.remote())
                if kind == "answered":
                    answer: Answer = what
                    return answer
                if kind == "failed":
                    self.failed = True
                    raise GroupError("a worker failed") from what
                if kind == "over":
                    self._thread.join()
                    raise GroupError("the workers did not start, or have ended") from self._error
                controller.reply.remote(bool(listener and listener(what)))
        except RayActorError as error:
            self._thread.join(_END_S)
            raise GroupError("the controller of the workers died") from error

    def _at_work(self) -> Any:
        self._started.wait()
        if self._controller is None:
            raise GroupError("the workers did not start") from self._error
        return self._controller

    def placement(self) -> PlacementGroup | None:
        """Where its workers run; None before they have their places."""
        from ray.util.placement_group import PlacementGroup

        found = [key for key, state in self._placements() if state == "CREATED"]
        return PlacementGroup(found[-1]) if found else None

    def _placements(self) -> list[tuple[Any, str]]:
        """Id and state of the group's placement groups that hold something, or wait to."""
        import ray
        from ray._raylet import PlacementGroupID

        table = ray.util.placement_group_table().values()
        mine = [each for each in table if each["name"].startswith(f"{self.name}/") and each["state"] != "REMOVED"]
        return [(PlacementGroupID.from_hex(each["placement_group_id"]), each["state"]) for each in mine]

    def close(self) -> None:
        """End the workers and free what they hold."""
        import ray
        from ray.util.placement_group import PlacementGroup

        self._started.wait()
        if self._controller is not None:
            ray.kill(self._controller)
        self._thread.join(_END_S)
        for key, _ in self._placements():  # Ray frees it itself, but not where the controller died
            ray.util.remove_placement_group(PlacementGroup(key))


class Groups:
    """The one group of an owner: kept for as long as the jobs that come need as many workers, of the same kind.

    Args:
        lasting: see :class:`Group`.
    """

    def __init__(self, lasting: bool = False) -> None:
        self.lasting = lasting
        self.group: Group | None = None

    def size(self, need: Resources, sizes: tuple[int, ...] | list[int]) -> int | None:
        """Number of workers of the group at hand, if it serves a job with these sizes; else None, and it is closed."""
        group = self.group
        if group is not None and group.alive and group.workers in sizes and group.bundle == nodes.bundle(need):
            return group.workers
        self.close()
        return None

    def of(self, size: int, need: Resources, run: str, where: str | None) -> Group:
        """The group at hand, or a new one where there is none."""
        if self.group is None:
            self.group = Group(size, need, run, where, self.lasting)
        return self.group

    def close(self) -> None:
        """End the group at hand, if there is one."""
        group, self.group = self.group, None
        if group is not None:
            group.close()

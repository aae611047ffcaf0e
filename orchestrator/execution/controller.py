"""Ray Train's controller, with a board: what jobs the workers of its group are to train, and what became of them.

A group of workers is started without a job. Its owner gives jobs as messages, one at a time; every worker fetches
each. Workers are started again where they fail, and the owner decides what is trained then.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.controller.state import RestartingState
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup, worker_group
from ray.train.v2._internal.execution.worker_group import state as worker_group_state
from ray.train.v2._internal.execution.worker_group.placement_group_handle import DefaultPlacementGroupHandle
from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker as _RayTrainWorker
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from orchestrator.execution.session import OWN

if TYPE_CHECKING:
    from orchestrator.execution.answer import Answer
    from orchestrator.execution.worker import Assignment

RETURN_S = 10.0
"""How long after a job's answer a worker may take until it asks for the next job; then it is started again."""
Heard = tuple[Literal["said", "answered", "failed", "over"], Any]
"""What the owner hears of a job: a message, which waits for a reply; the answer; the error of a worker; or that the
group is no more."""


def environment() -> dict[str, Any]:
    """The runtime environment of a group's processes: none in a cluster that has the driver's, as Ray starts a process
    of its own for any other, and has some that wait.
    """
    if os.environ.get(OWN):
        return {}
    return {"env_vars": {"RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0", **get_env_vars_to_propagate()}}


class Fixed(FixedScalingPolicy):
    """The number of workers never changes. Ray's asks for their places by an actor of Ray Data, which takes seconds to
    start; an autoscaler sees the placement group as well.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nothing."""

    def _maybe_send_resource_request(self) -> None:
        """Nothing."""


class _NoBarrier:
    """In place of Ray Train's actor for the barriers of ``ray.train.report``, which these workers never call."""

    @classmethod
    def options(cls, **given: Any) -> type[_NoBarrier]:
        """As an actor has them."""
        return cls

    @staticmethod
    def remote(**given: Any) -> Any:
        """An actor that is there already."""
        return ray.get_runtime_context().current_actor


class RayTrainWorker(_RayTrainWorker):
    """Ray Train's, which imports what jobs need while Ray Train is busy with other things."""

    def __init__(self) -> None:
        super().__init__()
        threading.Thread(target=importlib.import_module, args=["orchestrator.execution.imports"], daemon=True).start()


class Workers(WorkerGroup):
    """Ray Train's workers, in a placement group that has the name of their run: so anyone can find and free it."""

    _worker_cls = RayTrainWorker

    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> dict[str, Any]:
        return environment()

    def _create_placement_group(self, scaling_config: Any, worker_group_context: Any) -> DefaultPlacementGroupHandle:
        group = ray.util.placement_group(
            [worker_group_context.resources_per_worker] * worker_group_context.num_workers,
            strategy=worker_group_context.placement_strategy,
            name=f"{self._train_run_context.run_config.name}/{worker_group_context.run_attempt_id}",
        )
        return DefaultPlacementGroupHandle(group)


class GroupController(TrainController):
    """The board is in the controller, so that a group needs no other process. All methods run on one event loop."""

    worker_group_cls = Workers

    def __init__(self, **given: Any) -> None:
        self._changed = asyncio.Condition()
        self._turn = 0
        self._job: Assignment | None = None
        self._busy: set[int] = set()
        self._arrived: dict[int, dict[str, str]] = {}
        self._heard: deque[Heard] = deque()
        self._reply: bool | None = None
        self._may_restart = self._over = False
        module: Any = worker_group  # in this process alone; no setting of Ray Train does this
        module.SynchronizationActor = _NoBarrier
        state: Any = worker_group_state
        state._shutdown_sync_actor = lambda actor: None
        super().__init__(**given)

    async def give(self, job: Assignment) -> None:
        """From the owner: what the workers are to train now; the job before it has been answered, or has failed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until(lambda: not self._busy), RETURN_S)
        for rank in self._busy:  # it waits for another, which has left
            assert self._worker_group is not None
            ray.kill(self._worker_group.get_workers()[rank].actor)
        await self._until(lambda: not self._busy or self._over)  # Ray Train starts all again, and no job pays for it
        self._turn, self._job, self._reply = self._turn + 1, job, None
        self._heard.clear()
        await self._notify()

    async def hear(self) -> Heard:
        """From the owner: what comes next of the job under way."""
        await self._until(lambda: bool(self._heard) or self._over)
        return self._heard.popleft() if self._heard else ("over", None)

    async def reply(self, stop: bool) -> None:
        """From the owner: whether the job is to stop, to what was said."""
        self._reply = stop
        await self._notify()

    async def restart(self) -> None:
        """From the owner: let workers that failed start again."""
        self._may_restart = True
        await self._notify()

    async def arrive(self, rank: int, world: int, offer: dict[str, str]) -> str:
        """From a worker: wait for all others; the URL where they meet.

        Args:
            rank: of the worker.
            world: number of workers.
            offer: ``node``, and from rank 0 the URLs ``alone``, for workers of one node, and ``apart``.
        """
        arrived = self._arrived
        arrived[rank] = offer
        await self._notify()
        await self._until(lambda: len(arrived) == world)
        together = len({each["node"] for each in arrived.values()}) == 1
        return arrived[0]["alone" if together else "apart"]

    async def next(self, rank: int, turn: int) -> tuple[int, Assignment]:
        """From a worker that has ended job number ``turn``: the next one and its number."""
        self._busy.discard(rank)
        await self._notify()
        arrived = self._arrived
        await self._until(lambda: (self._job is not None and self._turn > turn) or arrived is not self._arrived)
        if arrived is not self._arrived:
            raise RuntimeError("the workers are started again, and this one ends")
        assert self._job is not None
        self._busy.add(rank)
        return self._turn, self._job

    async def say(self, turn: int, message: Any) -> bool:
        """From rank 0: pass a message to the owner and wait for its reply, whether job number ``turn`` is to stop."""
        if turn != self._turn or self._job is None:
            return True
        self._reply = None
        self._heard.append(("said", message))
        await self._notify()
        await self._until(lambda: self._reply is not None or self._turn != turn or self._job is None)
        return self._reply is not False

    async def answer(self, turn: int, answer: Answer) -> None:
        """From rank 0, or from another that cannot train: how job number ``turn`` ended."""
        if turn == self._turn and self._job is not None:
            self._job = None
            self._heard.append(("answered", answer))
            await self._notify()

    async def run(self) -> None:
        """Ray's, after which there are no more workers."""
        try:
            await super().run()
        finally:
            self._over = True
            await self._notify()

    async def _step(self) -> Any:
        state = self.get_state()
        if isinstance(state, RestartingState):
            if self._job is not None:
                self._job, self._may_restart = None, False
                self._heard.append(("failed", state.training_failed_error))
                await self._notify()
                await self._until(lambda: self._may_restart)
            self._busy.clear()
            self._arrived = {}
            await self._notify()
        return await super()._step()

    async def _until(self, ready: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(ready)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class GroupTrainer(DataParallelTrainer):
    """Ray Train's trainer with our controller.

    Args:
        started: called with the controller's handle.
        cleaner: start Ray's actor that frees what a group holds if the process of its owner dies, which is not the
            driver.
        given: see Ray's.
    """

    def __init__(
        self, started: Callable[[Any], None], cleaner: bool, scaling_config: ScalingConfig, **given: Any
    ) -> None:
        super().__init__(scaling_config=scaling_config, **given)
        self._started, self._cleaner, self._scaling = started, cleaner, scaling_config

    def _create_default_callbacks(self) -> list[Any]:
        unneeded = (DatasetsCallback, *(() if self._cleaner else (PlacementGroupCleanerCallback,)))  # an actor each
        return [each for each in super()._create_default_callbacks() if not isinstance(each, unneeded)]

    def _initialize_and_run_controller(self, **given: Any) -> Any:
        from orchestrator.execution.nodes import on_this_node

        actor: Any = ray.remote(GroupController).options(
            num_cpus=0, scheduling_strategy=on_this_node(), runtime_env=environment()
        )
        controller: Any = actor.remote(**given | {"scaling_policy": Fixed(self._scaling)})
        self._started(controller)
        ray.get(controller.run.remote())
        return ray.get(controller.get_result.remote())

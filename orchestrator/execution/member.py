"""What each worker of a group runs: job after job, as its controller has them."""

from __future__ import annotations

import os
from typing import Any


def serve(config: dict[str, Any]) -> None:
    """Train what comes, until the process is ended.

    Args:
        config: ``home``, the driver's ORCHESTRATOR_HOME; ``gpu``, whether each worker has one; ``threads`` of each.
    """
    import ray
    import ray.train
    from ray.train.v2._internal.execution.context import get_train_context

    os.environ["ORCHESTRATOR_HOME"] = config["home"]
    context = ray.train.get_context()
    os.environ["LOCAL_RANK"] = str(context.get_local_rank())
    board, rank, turn = get_train_context().controller_actor, context.get_world_rank(), 0

    import torch

    from jobs.place import Place
    from orchestrator.execution import network
    from orchestrator.execution.worker import train_one

    torch.set_num_threads(config["threads"])  # Ray sets OMP_NUM_THREADS, unless the driver's environment has it
    network.join(board, rank, context.get_world_size(), "nccl" if config["gpu"] else "gloo")
    while True:
        given: Any = ray.get(board.next.remote(rank, turn))
        turn, job = given
        answer = train_one(job, Place.current(config["gpu"]), lambda what, number=turn: _say(board, number, what))
        if rank == 0 or answer.failure is not None:
            ray.get(board.answer.remote(turn, answer))


def _say(board: Any, turn: int, what: Any) -> bool:
    import ray

    return bool(ray.get(board.say.remote(turn, what)))

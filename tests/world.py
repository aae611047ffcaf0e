"""Runs a function as a world of processes over gloo, as torchrun or Ray Train would."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp


def _member(rank: int, world: int, path: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}/rendezvous", rank=rank, world_size=world)
    try:
        result = function(*arguments)
    except Exception:
        result = traceback.format_exc()
        torch.save({"error": result}, f"{path}/{rank}.pt")
        raise
    torch.save({"result": result}, f"{path}/{rank}.pt")
    torch.distributed.destroy_process_group()


def run(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function(*arguments)`` returns in each of ``world`` processes (tensors and plain containers)."""
    with tempfile.TemporaryDirectory() as path:
        mp.spawn(_member, (world, path, function, arguments), nprocs=world)
        return [torch.load(f"{path}/{rank}.pt", weights_only=True)["result"] for rank in range(world)]

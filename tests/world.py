"""Runs a function as a world of processes over gloo, as torchrun or Ray Train would.

The processes stay for the whole test run, since starting one and importing torch in it takes most of a test's time. A
call gets a process group of its own, and leaves a process as it found it or the test fails; after a failure all are
started afresh.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.multiprocessing as mp

_members: list[tuple[Any, Connection]] = []
"""Processes and the pipes to them; rank r of any world is the process at r."""


_COMPILERS = (
    *("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR"),
    "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR",
)
"""What torch's compiler sets when it is imported, which the first optimizer of a process does, and when it compiles."""


_CONNECTED = "connectFullMesh failed"
"""What gloo says when a connection between two processes was closed while it was made, as happens on a busy machine:
nothing was run then, so it is tried again."""


def run(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function(*arguments)`` returns in each of ``world`` processes (tensors and plain containers).

    Raises:
        RuntimeError: ranks failed or died; the message has their tracebacks.
    """
    for _ in range(2):
        try:
            return _run(world, function, arguments)
        except RuntimeError as error:
            if _CONNECTED not in str(error):
                raise
    return _run(world, function, arguments)


def _run(world: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
    if not all(process.is_alive() for process, _ in _members):
        _end()
    while len(_members) < world:
        _start()
    with tempfile.TemporaryDirectory() as path:
        members = dict(enumerate(_members[:world]))
        for rank, (_, pipe) in members.items():
            pipe.send((path, rank, world, function, arguments))
        waiting = {pipe: rank for rank, (_, pipe) in members.items()}
        failures: dict[int, str] = {}
        while waiting and (ready := wait(list(waiting), 2 if failures else None)):
            for pipe in ready:
                rank = waiting.pop(pipe)
                try:
                    failure = pipe.recv()
                except EOFError:
                    members[rank][0].join()
                    failure = f"its process ended with exit code {members[rank][0].exitcode}"
                failures |= {rank: failure} if failure else {}
        if failures:
            _end()  # the other ranks may wait for these without end
            raise RuntimeError("\n".join(f"rank {rank} of {world}: {text}" for rank, text in sorted(failures.items())))
        return [torch.load(f"{path}/{rank}.pt", weights_only=True) for rank in range(world)]


def _start() -> None:
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_member, args=(theirs,), daemon=True)  # it ends with this one
    process.start()
    theirs.close()
    _members.append((process, ours))


def _end() -> None:
    for process, pipe in _members:
        process.kill()
        process.join()
        pipe.close()
    _members.clear()


def _member(pipe: Connection) -> None:
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError):
        while True:
            path, rank, world, function, arguments = pipe.recv()
            try:
                before = _globals()
                torch.save(_in_group(path, rank, world, function, arguments), f"{path}/{rank}.pt")
                assert _globals() == before, f"left behind: {before} became {_globals()}"
                pipe.send("")
            except BaseException:
                pipe.send(traceback.format_exc())


def _in_group(path: str, rank: int, world: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    torch.seed()  # whoever counts on the state that the global generator happens to have is found out
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}/rendezvous", rank=rank, world_size=world)
    os.environ["LOCAL_RANK"] = str(rank)
    result = function(*arguments)
    del os.environ["LOCAL_RANK"]
    torch.distributed.destroy_process_group()
    return result


def _globals() -> dict[str, Any]:
    """What a function could leave to the next."""
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.enabled),
        "mkldnn": torch.backends.mkldnn.enabled,
        "matmul": torch.get_float32_matmul_precision(),
        "grad": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "folder": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if name not in _COMPILERS},
    }

"""The process that is copied: it imports, then forks a worker for each client that asks.

    python -m orchestrator.execution.forkserver.server LISTENER [--lasting]

LISTENER is the number of an open socket; see ``ForkServer`` for the other. It ends when its standard input does, or the
raylet that it serves.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, TypedDict

from orchestrator.execution import alike
from orchestrator.execution.forkserver import LASTING

_FIRST = ("torch._dynamo", "torch.distributed", "torch.nn.parallel", "jobs.train", "jobs.models.stored", "pandas")
"""Modules that do not import Ray."""
_THEN = (
    "ray._private.workers.default_worker",
    "ray.tune",
    "orchestrator.execution.controller",
    "orchestrator.execution.imports",
    "orchestrator.tracking.recorders",
)
_MORE = ("orchestrator.tracking.imports",)
"""Where copies are made for long."""
_RAYLET, _JOB, _ANY_JOB = "RAY_RAYLET_PID", "RAY_JOB_ID", "ffffffff"
_FREE = (_JOB, "RAY_LD_PRELOAD_ON_WORKERS", "OMP_NUM_THREADS")
"""Variables that may differ between this process and a copy, though they act when a process starts."""
_OUT_OF_MEMORY = "RAY_worker_oom_score_adjustment"
_CARDS = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
_ASKED_S = 10.0


class Request(TypedDict):
    """What a client wants to become: the words of a command line, variables, working folder, blocked signals."""

    words: list[str]
    environment: dict[str, str]
    folder: str
    blocked: list[int]


def main() -> None:
    """Fork until standard input ends; in a copy, become the worker."""
    listener, folder = socket.socket(fileno=int(sys.argv[1])), sys.path[0]
    for name in _FIRST:
        importlib.import_module(name)
    script = _serve(listener)
    if script:
        sys.path[sys.path.index(folder)] = os.path.dirname(os.path.realpath(script[0]))
        sys.argv = script
        runpy.run_path(script[0], run_name="__main__")
    else:
        shutil.rmtree(os.path.dirname(listener.getsockname()))


def _serve(listener: socket.socket) -> list[str]:
    """In a copy: the script that it runs, and its arguments; in the server, once that is to end: nothing."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the copies
    safe, ends = False, [sys.stdin.fileno()]
    while not set(ends) & set(select.select([listener.fileno(), *ends], [], [])[0]):
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):  # the client has ended, or there are too many processes
            connection.settimeout(_ASKED_S)
            request, files = _receive(connection)
            if "ray" not in sys.modules:
                raylet = request["environment"][_RAYLET]
                ends.append(os.pidfd_open(int(raylet)))
                os.environ |= {_RAYLET: raylet, _JOB: _ANY_JOB}  # Ray reads some variables when it is imported
                import_with_ray(_THEN + (_MORE if LASTING in sys.argv else ()))
                safe = _safe()
            waits = not select.select([connection], [], [], 0)[0]  # else it has become the worker itself, or was killed
            script = _script(request) if safe and waits else []
            if script and os.fork() == 0:
                listener.close()
                os.close(ends[1])
                _become(request, files)
                return script
            for file in files:
                os.close(file)
            connection.sendall(b"1" if script else b"0")
    return []


def _receive(connection: socket.socket) -> tuple[Request, list[int]]:
    """What a client asks for, and its standard files."""
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    missing, data = int.from_bytes(size, "big"), b""
    while missing:
        data += (part := connection.recv(missing))
        missing -= len(part)
        if not part:
            raise ConnectionError("the client has ended")
    request: Request = json.loads(data)
    return request, files


def import_with_ray(names: Iterable[str]) -> None:
    """Import modules that import Ray, so that each copy of this process draws names of its own for Ray's actors."""
    import ray.actor
    from ray import ActorClassID

    module: Any = ray.actor
    # Ray's own would start its generator here, and all copies would draw the same names
    module.ActorClassID = SimpleNamespace(from_random=lambda: ActorClassID(os.urandom(ActorClassID.size())))
    for name in names:
        importlib.import_module(name)
    module.ActorClassID = ActorClassID
    gc.collect()
    gc.freeze()  # a collection would write to all pages, which are shared until then


def _safe() -> bool:
    """Whether copies of this process work: it has not talked to a GPU, and Ray draws other names in each."""
    files = (os.path.join("/proc/self/fd", each) for each in os.listdir("/proc/self/fd"))
    on_card = any(os.readlink(each).startswith(_CARDS) for each in files if os.path.islink(each))
    return not on_card and _drawn() != _drawn()


def _drawn() -> bytes:
    """A name that Ray draws in a copy."""
    from ray import WorkerID

    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, WorkerID.from_random().binary())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        return answer.read()


def _script(request: Request) -> list[str]:
    """The script that the worker runs, and its arguments; nothing where a copy would not be what Ray starts."""
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray._private.workers.setup_worker import parser

    given, script = parser.parse_known_args(request["words"][1:])
    context = RuntimeEnvContext.deserialize(given.serialized_runtime_env_context or "{}")
    request["environment"] |= context.env_vars
    mine, its = (alike.settings(each) for each in (os.environ, request["environment"]))
    differs = {name for name in {*mine, *its} if mine.get(name) != its.get(name)}.difference(_FREE)
    others = vars(context) != vars(RuntimeEnvContext(env_vars=context.env_vars))  # another Python, a container
    python = given.language == "PYTHON" and script[0].endswith(".py")
    return script if python and not differs and not others else []


def _become(request: Request, files: list[int]) -> None:
    """Be as the process that asked."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    os.setpgid(0, 0)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    Config.initialize("")  # Ray's settings are variables, too
    os.chdir(request["folder"])
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write(os.environ.get(_OUT_OF_MEMORY, "1000"))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])


if __name__ == "__main__":
    main()

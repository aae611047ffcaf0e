"""Commands of the tests as copies of one process that has imported what they need: each saves seconds of imports.

    python -m tests.orchestrator.copied SOCKET

SOCKET is the number of an open socket. A copy runs ``python -m orchestrator`` from its first line on, with standard
files, variables, folder and session of its own, and ends as any process does.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from orchestrator.execution.alike import settings
from orchestrator.execution.forkserver.server import import_with_ray

ROOT = Path(__file__).parents[2]
_PLAIN = (
    *("orchestrator.__main__", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "matplotlib.backends.backend_agg"),
    *("torch._dynamo", "jobs.models.stored", "jobs.models.size", "sklearn.datasets"),
)
_WITH_RAY = ("ray.train", "ray.tune", "orchestrator.execution.launch", "tuning.run.launch", "tuning.report")
_MAX_BYTES = 2**20


class Request(TypedDict):
    """Words of the command after ``orchestrator``, its variables, and its working folder."""

    words: list[str]
    environment: dict[str, str]
    folder: str


class Copy:
    """A command that runs, with the methods of ``subprocess.Popen`` that tests call."""

    def __init__(self, report: int) -> None:
        self.returncode: int | None = None
        self._report = os.fdopen(report)
        pid = self._report.readline()
        assert pid, "the process that is copied has ended"
        self.pid = int(pid)

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            self.returncode = int(self._report.readline())
            self._report.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
        """
        if self.returncode is None and not select.select([self._report], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("orchestrator", timeout or 0.0)
        code = self.poll()
        assert code is not None
        return code

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def start(
    words: list[str], environment: Mapping[str, str], folder: Path, files: list[int]
) -> Copy | subprocess.Popen[bytes]:
    """``python -m orchestrator`` in that folder, in a session of its own, with those standard files.

    It is a process started as any other where its variables would have acted at its start (Ray's address acts later).
    """
    server, acted = _server()
    if _acting(environment) != acted:
        given: dict[str, Any] = dict(zip(("stdin", "stdout", "stderr"), files, strict=True))
        command = [sys.executable, "-m", "orchestrator", *words]
        return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **given)
    answer, report = os.pipe()
    request = Request(words=words, environment=dict(environment), folder=str(folder))
    socket.send_fds(server, [json.dumps(request).encode()], [*files, report])
    os.close(report)
    return Copy(answer)


def _acting(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in settings(environment).items() if name != "RAY_ADDRESS"}


@functools.cache
def _server() -> tuple[socket.socket, dict[str, str]]:
    """The connection to the process that is copied, which ends with this one; and the variables that acted there."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, "-m", __name__, str(its.fileno())]
        pipe = subprocess.PIPE  # as commands have them: Python finds out at its start whether it can seek there
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=pipe, stderr=pipe, pass_fds=[its.fileno()], start_new_session=True
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours, _acting(os.environ)


def main() -> None:
    """Copy this process for each request; in a copy, run the command."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    for name in _PLAIN:
        importlib.import_module(name)
    import_with_ray(_WITH_RAY)
    words = _serve(requests)
    if words is not None:
        sys.argv[1:] = words
        del sys.modules["orchestrator.__main__"]  # what it imported stays
        runpy.run_module("orchestrator", run_name="__main__", alter_sys=True)


def _serve(requests: socket.socket) -> list[str] | None:
    """In a copy: the words of its command; in the server: nothing, when nobody can ask any more."""
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([requests.fileno(), *running], [], [])[0]:
            if ready in running:
                pid, report = running.pop(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError), os.fdopen(report, "w") as answer:
                    answer.write(f"{code}\n")
                os.close(ready)
                continue
            data, files, _, _ = socket.recv_fds(requests, _MAX_BYTES, 4)
            if not data:
                return None
            pid = os.fork()
            if not pid:
                requests.close()
                for watched, (_, report) in running.items():
                    os.close(watched)
                    os.close(report)
                return _become(json.loads(data), files)
            os.write(files[3], f"{pid}\n".encode())
            running[os.pidfd_open(pid)] = pid, files[3]
            for file in files[:3]:
                os.close(file)


def _become(request: Request, files: list[int]) -> list[str]:
    """Be as a process that was started so; the words of the command."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    os.setsid()
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    Config.initialize("")
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    time.tzset()
    return request["words"]


if __name__ == "__main__":
    main()

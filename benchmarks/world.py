"""The outside of a world: processes that train in segments, and stand still while another world is measured."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks.gate import ADDRESS
from benchmarks.measure import ROOT

SETTLE_S = 1.0
"""How long a world that was woken gets to catch up on what it missed before its segment begins."""
PATIENCE_S = 600.0


class World:
    """A command whose ``ranks`` processes come to the gate; everything below it stands still between segments.

    Args:
        name: for messages and the log.
        command: what to run.
        folder: where the socket and the log go.
        environment: variables to add; None takes one away.
        ranks: number of processes that connect.
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str | None], ranks: int
    ) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        address = folder / f"{name}.socket"
        variables = {**os.environ, "PYTHONPATH": str(ROOT), ADDRESS: str(address), **environment}
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(address))
        door.listen(ranks)
        door.settimeout(1.0)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                env={key: value for key, value in variables.items() if value is not None},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.pids: dict[int, int] = {}
        self._lines: dict[int, Connection] = {}
        try:
            until = time.monotonic() + PATIENCE_S
            while len(self._lines) < ranks:
                self._check(until)
                with contextlib.suppress(TimeoutError):
                    line = Connection(door.accept()[0].detach())
                    rank, pid = line.recv()
                    self._lines[rank], self.pids[rank] = line, pid
            self._receive()
            self._freeze()
        except BaseException:
            self._kill()
            raise
        finally:
            door.close()

    def segment(self) -> dict[str, Any]:
        """Run one: ``seconds``, ``images`` and what else the world reports."""
        self._signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
        self._lines[0].send(True)
        answer = self._receive()
        self._freeze()
        return answer

    def rate(self) -> float:
        """Images a second of one segment."""
        answer = self.segment()
        return float(answer["images"] / answer["seconds"])

    def tree(self) -> list[psutil.Process]:
        """All its processes."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._signal(signal.SIGCONT)
                self._lines[0].send(False)
                self.process.wait(120)
        self._kill()

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE_S
        while not wait([self._lines[0]], 1.0):
            self._check(until)
        try:
            answer: dict[str, Any] = self._lines[0].recv()
        except EOFError:
            raise RuntimeError(f"{self.name} ended before its time:\n{self._tail()}") from None
        return answer

    def _check(self, until: float) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self._tail()}")
        if time.monotonic() > until:
            raise RuntimeError(f"{self.name} did not answer for {PATIENCE_S:g} s:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def _freeze(self) -> None:
        """Stop all its processes and wait until they are, those included that were being made meanwhile."""
        while awake := [process for process in self.tree() if _status(process) not in _STILL]:
            for process in awake:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGSTOP)
            time.sleep(0.01)

    def _signal(self, number: int) -> None:
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _kill(self) -> None:
        if self.process.poll() is None:
            self._signal(signal.SIGKILL)
            self.process.wait()


_STILL = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD


def allocator() -> dict[str, str]:
    """The allocator's environment as the launcher sets it."""
    from orchestrator.execution.session import ENVIRONMENT

    return {name: value for name, value in ENVIRONMENT.items() if name.startswith(("MALLOC_", "GLIBC_"))}


def torchrun(name: str, folder: Path, workers: int, module: str, *words: str, **environment: str) -> World:
    """A world of one-thread processes under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    threads = {"OMP_NUM_THREADS": "1"}
    return World(name, [*command, "-m", module, *words], folder, threads | environment, workers)


def ray(name: str, folder: Path, workers: int, body: str, spec: Path) -> World:
    """A job as ``orchestrator train`` runs it; ``body`` is ``module:function``, what its workers run."""
    command = [sys.executable, "-m", "benchmarks.ours", str(spec), "--ray", body]
    return World(name, command, folder, {"OMP_NUM_THREADS": None}, workers)


@contextlib.contextmanager
def together(*starts: Any) -> Iterator[list[World]]:
    """Worlds started one after another, by these functions."""
    with ExitStack() as stack:
        yield [stack.enter_context(start()) for start in starts]

"""The Ray cluster that ``orchestrator up`` keeps on this machine: where it is noted, who joins it, how it ends.

A note in the home, which only its owner can read, has its address and token. The process that keeps it
(``orchestrator.execution.keeper``) holds a lock as long as it lives, and every command that has joined holds another
one, so that the kernel takes both from what was killed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from jobs.lock import Lock, Locked, holder
from orchestrator.execution import alike, tidy
from orchestrator.home import home

log = logging.getLogger(__name__)

READY, BUSY = "ready", "another process is starting or ending one"
"""What the keeper says when its cluster is up, and when another keeper of this home holds the lock."""
_ROOT = Path(__file__).parents[2]
_START_S, _END_S, _POLL_S = 240.0, 60.0, 0.1
_joined: list[Lock] = []


@dataclass(frozen=True)
class Kept:
    """A cluster that is kept.

    Attributes:
        address: of its GCS, on loopback.
        token: Ray's.
        session: folder of its files and sockets.
        pid: of its keeper.
        began: Unix seconds.
        idle_s: it ends after so many seconds without use.
        cpus: that it has.
        code: see :func:`orchestrator.execution.alike.code`.
        settings: see :func:`orchestrator.execution.alike.settings`; of its keeper.
        names: all variables of its keeper.
        family: pid and start of Ray's processes.
    """

    address: str
    token: str
    session: str
    pid: int
    began: float
    idle_s: float
    cpus: int
    code: list[str]
    settings: dict[str, str]
    names: list[str]
    family: list[tuple[int, float]]

    @classmethod
    def read(cls) -> Self | None:
        """What is noted, whether it is up or not; None where nothing is."""
        try:
            return cls(**json.loads(note().read_bytes()))
        except FileNotFoundError:
            return None

    def write(self) -> None:
        """Note it, for nobody else's eyes."""
        new = note().with_suffix(f".{os.getpid()}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        new.replace(note())

    @property
    def up(self) -> bool:
        """Whether its keeper lives."""
        return (holder(keeping()) or "").startswith(f"pid {self.pid} ")

    def differs(self, environment: Mapping[str, str]) -> list[str]:
        """What its workers could not be given of this code and an environment; empty where it can be joined."""
        if self.code != alike.code():
            return [f"its code and packages are those of {self.code[0]} and {self.code[1]}, as they were then"]
        mine = alike.settings(environment)
        return sorted(name for name in {*mine, *self.settings} if mine.get(name) != self.settings.get(name))

    def options(self) -> dict[str, Any]:
        """For ``ray.init``: workers get this process's environment and current folder, as in a cluster of its own.

        It is passed through the cluster's tables to those who have its token; a command line, which Ray's own way
        of passing an environment makes of it for an instant, could be read by everybody.
        """
        given = {name: value for name, value in os.environ.items() if not alike.fixed(name)}
        gone = [name for name in self.names if name not in os.environ and not alike.fixed(name)]
        return {
            "address": self.address,
            "runtime_env": {"worker_process_setup_hook": _adopt(gone, given, os.getcwd())},
        }

    def clear(self) -> None:
        """Remove what is left of it, once its keeper has ended."""
        for pid, start in self.family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if abs(process.create_time() - start) < 1:
                    process.kill()
        tidy.remove_session(Path(self.session))
        note().unlink(missing_ok=True)


def _adopt(gone: list[str], given: dict[str, str], folder: str) -> Callable[[], None]:
    def adopt() -> None:  # sent by its code, so that no worker has to find this module first
        for name in gone:
            os.environ.pop(name, None)
        os.environ.update(given)
        os.chdir(folder)

    return adopt


def note() -> Path:
    """The note of this machine's cluster in the home, which several machines may share."""
    return home() / "ray" / f".cluster-{platform.node()}.json"


def keeping() -> Path:
    """The lock of the keeper."""
    return note().with_suffix(".lock")


def users() -> Path:
    """The lock that commands share."""
    return note().with_suffix(".users")


def used(wait_s: float = 1.0) -> bool:
    """Whether a command has joined the cluster.

    Args:
        wait_s: how long to wait for others that ask.
    """
    try:
        Lock(users(), wait_s).close()
    except Locked:
        return True
    return False


def find() -> Kept | None:
    """The cluster that is up; what a crash has left of an earlier one is removed."""
    if not note().exists():
        return None
    try:
        found = Kept.read()
    except (ValueError, TypeError):  # of another version
        log.warning("%s cannot be read; it is removed", note())
        note().unlink(missing_ok=True)
        return None
    if found is not None and not found.up:
        found.clear()
        return None
    return found


def join() -> Kept | None:
    """The cluster that is up, held for this process until it ends; None where there is none that it can join."""
    if find() is None:
        return None
    lock = Lock(users(), wait_s=_END_S, shared=True)
    found = find()  # it may have ended meanwhile, but no longer can
    if found is not None and (why := found.differs(os.environ)):
        log.warning(
            "the cluster of orchestrator up is not used, since these differ: %s. To start it anew from here: "
            "orchestrator down; orchestrator up",
            ", ".join(why),
        )
        found = None
    if found is None:
        lock.close()
    else:
        _joined.append(lock)
    return found


def leave() -> None:
    """Hold the cluster that was joined last no longer."""
    _joined.pop().close()


def up(idle_s: float) -> tuple[Kept, bool]:
    """The cluster, and whether it was started now. One that is being started, or is ending, is waited for.

    Args:
        idle_s: it ends after so many seconds without use.

    Raises:
        ConnectionError: it did not start.
    """
    until = time.monotonic() + _START_S
    while (found := find()) is None:
        answer = _start(idle_s)
        if answer == READY and (found := find()) is not None:
            return found, True
        if answer != BUSY or time.monotonic() > until:
            raise ConnectionError(f"the cluster did not start: {answer or 'its keeper ended'}")
        while find() is None and holder(keeping()) is not None and time.monotonic() < until:
            time.sleep(_POLL_S)
    return found, False


def _start(idle_s: float) -> str:
    """Start a keeper; what it says."""
    words = [sys.executable, "-m", "orchestrator.execution.keeper", str(idle_s)]
    keeper = subprocess.Popen(
        words,
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert keeper.stdout is not None
    answer = None
    try:
        ready = select.select([keeper.stdout], [], [], _START_S)[0]
        answer = keeper.stdout.readline().strip() if ready else f"no answer within {_START_S:g} s"
    finally:
        keeper.stdout.close()
        if answer not in (READY, BUSY):
            keeper.terminate()
    return answer


def down(force: bool) -> Kept | None:
    """End the cluster; the one that was up.

    Args:
        force: also while commands use it, whose runs then fail.

    Raises:
        Locked: commands use it.
    """
    found = find()
    if found is None:
        return None
    with contextlib.ExitStack() as nobody:
        if not force:
            try:
                nobody.enter_context(Lock(users()))  # who comes now waits, and finds no cluster
            except Locked:
                raise Locked(
                    "a command or a notebook uses the cluster; wait for it to end, or: orchestrator down --force, "
                    "which fails its run"
                ) from None
        _end(found)
    find()  # removes what may be left
    return found


def _end(found: Kept) -> None:
    number, until = signal.SIGTERM, time.monotonic()
    while found.up:
        if time.monotonic() >= until:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(found.pid, number)
            number, until = signal.SIGKILL, until + _END_S  # the kernel ends with it what it has started
        time.sleep(_POLL_S)

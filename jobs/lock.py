"""A lock file that knows its holder, and that a killed holder cannot leave behind (``flock``)."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

LONG_S = 24 * 3600.0
"""How long to wait for another process that fetches, reads or converts the same data."""
_POLL_S = 0.02


class Locked(RuntimeError):  # noqa: N818  (reads as what it says: the file is locked)
    """Another process, or another object of this one, holds the lock."""


class Lock:
    """Holds ``path`` until closed.

    Args:
        path: the lock file; made where it is missing, and never deleted.
        wait_s: how long to wait for other holders. One second is the least that is safe where others call
            :func:`holder`, which also locks for an instant.
        shared: hold it beside other shared holders.

    Raises:
        Locked: somebody else holds it; the message names them.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, wait_s: float = 1.0, shared: bool = False) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        until = time.monotonic() + wait_s
        while not _taken(self._file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() > until:
                owner = _owner(self._file)
                self.close()
                raise Locked(f"{path} is held by {owner}; wait for it to end, or end it")
            time.sleep(_POLL_S)
        if not shared:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def close(self) -> None:
        """Release it; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def holder(path: Path) -> str | None:
    """Who holds the lock ``path`` ("pid 12 on host"); None where nobody does."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        return None if _taken(file, fcntl.LOCK_SH) else _owner(file)
    finally:
        os.close(file)


def _taken(file: int, kind: int) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(file: int) -> str:
    return os.pread(file, 200, 0).decode() or "another process"

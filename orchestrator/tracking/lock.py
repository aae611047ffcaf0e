"""A lock file that knows its holder, and that a killed holder cannot leave behind (``flock``)."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_WAIT_S = 1.0


class Locked(RuntimeError):  # noqa: N818  (reads as what it says: the file is locked)
    """Another process, or another object of this one, holds the lock."""


class Lock:
    """Holds ``path`` exclusively until closed.

    A holder is waited for a second, since whoever only looks (:func:`holder`) also locks for an instant.

    Raises:
        Locked: somebody else holds it; the message names them.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        until = time.monotonic() + _WAIT_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    owner = _owner(self._file)
                    os.close(self._file)
                    raise Locked(f"{path} is held by {owner}; wait for it to end, or end it") from None
                time.sleep(0.02)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def close(self) -> None:
        """Let go; a second call does nothing."""
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
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(file)
    finally:
        os.close(file)
    return None


def _owner(file: int) -> str:
    return os.pread(file, 200, 0).decode() or "another process"

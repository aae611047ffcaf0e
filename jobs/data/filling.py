"""A file of prepared pixels in the making. Finished rows are noted with their checksum, so a killed process loses few.

The pixels are in ``*.part`` until all are there, the notes in ``*.chunks``.
"""

from __future__ import annotations

import os
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.data.decode import Pixels


class Filling:
    """The caller holds the file's lock.

    Args:
        path: what the file is called once it is whole.
        begins: int64 ``(N + 1,)``: where the pixels of each row begin, and where the last ones end.

    Attributes:
        done: bool ``(N,)``: rows that were noted, now or by an earlier attempt.

    Raises:
        OSError: of the disk.
    """

    def __init__(self, path: Path, begins: NDArray[np.int64]) -> None:
        self._path, self._begins, self._nbytes = path, begins, int(begins[-1])
        self._part, self._notes = path.with_suffix(".part"), path.with_suffix(".chunks")
        with open(self._part, "ab") as file:
            _allocate(file.fileno(), self._nbytes)
        self._mapped: Any = np.memmap(self._part, np.uint8, "r+") if self._nbytes else np.empty(0, np.uint8)
        self.done = self._noted()
        self._lock = threading.Lock()

    def put(self, row: int, pixels: Pixels) -> None:
        """Write a row's pixels; several threads may write other rows meanwhile."""
        self._mapped[self._begins[row] : self._begins[row + 1]] = pixels.reshape(-1)

    def note(self, first: int, last: int) -> None:
        """Note that the rows ``first`` to ``last``, exclusive, are written.

        Raises:
            OSError: of the disk.
        """
        checksum = self._checksum(first, last)
        with self._lock, open(self._notes, "a", encoding="ascii") as notes:
            notes.write(f"{first} {last} {checksum}\n")
            self.done[first:last] = True

    def finish(self) -> None:
        """Give the file its name; all rows are done."""
        assert self.done.all()
        if self._nbytes:
            self._mapped.flush()
        os.replace(self._part, self._path)
        self._notes.unlink(missing_ok=True)

    def drop(self) -> None:
        """Delete what there is of it."""
        self._part.unlink()
        self._notes.unlink(missing_ok=True)

    def _checksum(self, first: int, last: int) -> int:
        return zlib.crc32(self._mapped[self._begins[first] : self._begins[last]])

    def _noted(self) -> NDArray[np.bool_]:
        """The rows that an earlier attempt wrote; those that are not as they were noted are to be made again."""
        done = np.zeros(len(self._begins) - 1, bool)
        lines = self._notes.read_text(encoding="ascii").splitlines() if self._notes.exists() else []
        for first, last, checksum in [map(int, line.split()) for line in lines if len(line.split()) == 3]:
            if last <= len(done) and self._checksum(first, last) == checksum:
                done[first:last] = True
        return done


def _allocate(file: int, size: int) -> None:
    """Give a file its size and its blocks: writing to a map of a file without them ends the process on a full disk."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)

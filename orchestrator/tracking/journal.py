"""An append-only file of events that survives kill -9: the truth about a run, of which MLflow is a replica.

One JSON object a line: ``{"seq": 3, "crc": "89abcdef", "data": {...}}``. ``seq`` counts lines from 1; ``crc`` is the
CRC-32 of the sequence number and the text of ``data``. A batch of events is on the disk (fsync) before ``append``
returns. Numbers that JSON lacks (NaN, infinities) are the caller's to write as strings.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.lock import Lock

log = logging.getLogger(__name__)

FILE = "journal.jsonl"
"""Name of a run's journal in its folder."""

Event = dict[str, Any]
_LINE = re.compile(rb'\{"seq": (\d+), "crc": "([0-9a-f]{8})", "data": (.*)\}')


@dataclass(frozen=True)
class Entry:
    """One line: its number (from 1), the byte at which it ends, and the event on it."""

    seq: int
    end: int
    event: Event


class Journal:
    """The one writer of a journal; holds its lock until closed.

    Opening cuts off a tail that a killed writer left half written, and says so in the log.

    Args:
        path: the file; it and its folder are made where missing.

    Raises:
        Locked: somebody else writes it.
        ValueError: a line that is not in the tail is corrupt.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = Lock(lock_path(path))
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                entries = read(path)
                self.seq, self._end = (entries[-1].seq, entries[-1].end) if entries else (0, 0)
                self._repair()
            except BaseException:
                os.close(self._file)
                raise
        except BaseException:
            self._lock.close()
            raise
        self.events: list[Event] = [entry.event for entry in entries]

    def append(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Write the events, all or none, and wait until the disk has them.

        Raises:
            OSError: the disk is full or broken; the journal is as it was.
        """
        batch = [dict(event) for event in events]
        data = b"".join(_encode(self.seq + number, event) for number, event in enumerate(batch, 1))
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._end + written)
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(data)
        self.seq += len(batch)
        self.events.extend(batch)

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._lock.close()

    def _repair(self) -> None:
        excess = os.fstat(self._file).st_size - self._end
        if excess:
            log.warning("%s ended in %d bytes of a write that was cut short; they are removed", self.path, excess)
            os.ftruncate(self._file, self._end)
        os.fsync(self._file)
        folder = os.open(self.path.parent, os.O_RDONLY)  # a new file survives a power cut only with its folder's entry
        os.fsync(folder)
        os.close(folder)


def read(path: Path, after: Entry | None = None) -> list[Entry]:
    """The whole lines of a journal, those behind ``after`` where it is given; another process may be writing it.

    Raises:
        OSError: it cannot be read.
        ValueError: a corrupt line is followed by a sound one, so it is no torn tail.
    """
    seq, end = (after.seq, after.end) if after else (0, 0)
    with path.open("rb") as file:
        file.seek(end)
        lines = file.read().split(b"\n")[:-1]
    entries: list[Entry] = []
    for number, line in enumerate(lines):
        decoded = _decode(line)
        if decoded is None or decoded[0] != seq + 1:
            if any(_decode(later) for later in lines[number + 1 :]):
                raise ValueError(
                    f"{path} line {seq + 1} is corrupt, but later lines are not, so no crash did this; "
                    f"restore the file from a backup, or keep its first {seq} lines alone"
                )
            break
        seq, end = seq + 1, end + len(line) + 1
        entries.append(Entry(seq, end, decoded[1]))
    return entries


def lock_path(path: Path) -> Path:
    """The lock file of the journal ``path``."""
    return path.with_suffix(".lock")


def _encode(seq: int, event: Event) -> bytes:
    data = json.dumps(event, allow_nan=False).encode()
    return b'{"seq": %d, "crc": "%08x", "data": %s}\n' % (seq, _crc(seq, data), data)


def _decode(line: bytes) -> tuple[int, Event] | None:
    match = _LINE.fullmatch(line)
    if match is None or int(match[2], 16) != _crc(int(match[1]), match[3]):
        return None
    return int(match[1]), json.loads(match[3])


def _crc(seq: int, data: bytes) -> int:
    return zlib.crc32(b"%d:%s" % (seq, data))

"""Copies of shards on this machine, within a budget of bytes that all its processes share.

A copy is ``ORCHESTRATOR_HOME/cache/shards/*``, named by the shard's URL and version, and takes its place when it is
whole and compared with the shard's checksum. Who knows which shards come next has them fetched ahead
(:meth:`Copies.expect`), and says which are done. Where the budget is full, what was done last is deleted first, so that
what an epoch still needs stays from the one before; then what was not read for longest. The time of a copy's file says
when it was read, or done. A deleted copy is fetched again by whoever reads it: that costs time, and changes nothing.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from jobs.data.cache import cached, key
from jobs.data.decode import DataError
from jobs.data.shards.shard import Shard
from jobs.lock import LONG_S, Lock
from jobs.urls import filesystem, is_url, refused
from jobs.words import byte_size

logger = logging.getLogger(__name__)

AHEAD = "shards ahead"
"""Name of the threads that fetch them."""
_THREADS = 2
_LATEST = 5e9
"""A time, in seconds as files have it, that is far away."""
PART = ".part"
"""Ends the names of what is under way."""


class Copies:
    """Reads shards, those that lie elsewhere from their copies; picklable.

    Args:
        most: bytes that the copies of this machine may take.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._wanted: deque[Shard] = deque()
        self._threads: list[threading.Thread] = []

    def __getstate__(self) -> dict[str, Any]:
        """Without the threads, which belong to the process."""
        return {**self.__dict__, "_wanted": deque(), "_threads": []}

    def read(self, shard: Shard, offset: int, size: int) -> bytes:
        """Some bytes of a shard; of a Parquet file, of its images one after the other.

        Raises:
            DataError: the shard is missing, damaged or shorter.
        """
        path = self.path(shard)
        try:
            file = self._opened(path, shard)
            try:
                data = os.pread(file, size, offset)
            finally:
                os.close(file)
        except OSError as error:
            raise DataError(f"shard {shard.url} cannot be read: {error.strerror}") from error
        if len(data) != size:
            raise DataError(f"shard {shard.url} ends before byte {offset + size}; the data changed while it was in use")
        return data

    def path(self, shard: Shard) -> str:
        """Where a shard's copy is kept, or the shard itself where it is read in place; it need not be there."""
        if shard.in_place:
            return shard.url
        return _copy(os.environ.get("ORCHESTRATOR_HOME"), shard)

    def fetched(self, shard: Shard) -> str:
        """The path of a shard's copy, which is there.

        Raises:
            DataError: the shard cannot be had, or this disk cannot hold it.
        """
        path = self.path(shard)
        if not shard.in_place and not os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with Lock(Path(os.path.dirname(path), f".{os.path.basename(path)[:2]}.lock"), LONG_S):
                if not os.path.exists(path):
                    self._fetch(shard, path)
        return path

    @contextmanager
    def original(self, shard: Shard) -> Iterator[str]:
        """The path of the shard as it is written; a Parquet file from elsewhere is there for this context only.

        Raises:
            DataError: see :meth:`fetched`.
        """
        if not is_url(shard.url) or not shard.is_parquet:
            yield self.fetched(shard) if is_url(shard.url) else shard.url
            return
        part = self._reserved(shard, f"{self.path(shard)}.{uuid.uuid4().hex}")
        try:
            self._download(shard, part)
            yield part
        finally:
            Path(part).unlink(missing_ok=True)

    def expect(self, coming: Iterable[Shard], done: Iterable[Shard]) -> None:
        """Have shards fetched by threads, in this order, and note those that are done.

        What cannot be fetched is logged only: who reads it will say why.
        """
        for shard in done:
            if not shard.in_place:
                with suppress(FileNotFoundError):
                    long_ago = (_LATEST - time.time()) / 10  # the later, the longer
                    os.utime(self.path(shard), (long_ago, long_ago))
        self._wanted.extend(shard for shard in coming if not shard.in_place)
        self._threads = [each for each in self._threads if each.is_alive()]
        for _ in range(min(len(self._wanted), _THREADS - len(self._threads))):
            self._threads.append(threading.Thread(target=self._ahead, name=AHEAD, daemon=True))
            self._threads[-1].start()

    def _ahead(self) -> None:
        while self._wanted:
            with suppress(IndexError, FileNotFoundError):  # another thread took it; it was deleted again at once
                shard = self._wanted.popleft()
                try:
                    os.utime(self.fetched(shard))
                except ValueError as error:
                    logger.warning("cannot fetch a shard ahead: %s", error)

    def _opened(self, path: str, shard: Shard) -> int:
        while True:
            try:
                file = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                if shard.in_place:
                    raise
                self.fetched(shard)
                continue
            if not shard.in_place:
                os.utime(file)  # so that the one that was not read for longest is known
            return file

    def _fetch(self, shard: Shard, path: str) -> None:
        part, flat = self._reserved(shard, path), f"{path}.flat{PART}"
        try:
            if is_url(shard.url):
                self._download(shard, part)
            if shard.is_parquet:
                source = part if is_url(shard.url) else shard.url
                shard.checked(source)
                shard.flatten(source, flat)
            with _room(path):  # who looks at the folder meanwhile may see neither name
                os.replace(flat if shard.is_parquet else part, path)
        except OSError as error:
            raise DataError(
                f"cannot keep a copy of {shard.url} in {os.path.dirname(path)}: {error.strerror}"
            ) from error
        finally:
            Path(part).unlink(missing_ok=True)
            Path(flat).unlink(missing_ok=True)

    def _reserved(self, shard: Shard, path: str) -> str:
        """An empty file whose name counts as the bytes of a shard that is under way."""
        part = f"{path}.{shard.file.size}{PART}"
        os.makedirs(os.path.dirname(part), exist_ok=True)
        with _room(path):
            self._make_room(shard)
            Path(part).touch()
        return part

    def _download(self, shard: Shard, part: str) -> None:
        logger.info("fetching %s, %s", shard.url, byte_size(shard.file.size))
        fs, inside = filesystem(shard.url, "data")
        try:
            fs.get_file(inside, part)
        except Exception as error:  # each library has its own
            raise DataError(str(refused(shard.url, "shard", error))) from error
        shard.checked(part)

    def _make_room(self, shard: Shard) -> None:
        """Delete the copies of the earliest times until the budget and the disk have room for a shard."""
        folder, size = cached("shards", "", ""), shard.file.size
        files = sorted(_files())
        held = sum(each for _, _, each in files)
        while held + size > self.most or shutil.disk_usage(folder).free < size:
            if not files:
                free = byte_size(shutil.disk_usage(folder).free)
                raise DataError(
                    f"no room for a copy of {shard.url}, {byte_size(size)}: data.cache_gb allows "
                    f"{byte_size(self.most)}, and the disk of {folder} has {free} free; allow more, free some space or "
                    "set ORCHESTRATOR_HOME to another disk"
                )
            _, path, each = files.pop(0)
            if not path.endswith(PART):
                Path(path).unlink(missing_ok=True)
                held -= each


def _room(path: str) -> Lock:
    """Held by who counts what is in the folder of a copy, or changes its names."""
    return Lock(Path(os.path.dirname(path), ".room.lock"), LONG_S)


@lru_cache(100_000)  # it is asked for every image
def _copy(home: str | None, shard: Shard) -> str:
    return str(cached("shards", key(shard.file, shard.columns if shard.is_parquet else ()), ".copy"))


def _files() -> list[tuple[float, str, int]]:
    """The time of each copy, its path and its bytes; what a kill left a day ago is deleted."""
    found = []
    with suppress(FileNotFoundError), os.scandir(cached("shards", "", "")) as entries:
        for entry in entries:
            if not entry.name.endswith((".copy", PART)):
                continue
            with suppress(FileNotFoundError):
                info, size = entry.stat(), 0
                if entry.name.endswith(PART):
                    if time.time() - info.st_mtime > LONG_S:
                        os.unlink(entry.path)
                        continue
                    size = int(entry.name.split(".")[-2]) if entry.name.split(".")[-2].isdigit() else 0
                found.append((info.st_mtime, entry.path, max(size, info.st_size)))
    return found

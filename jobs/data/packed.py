"""Prepared photographs as pixels in one file, which is mapped into memory: ``*.pixels``, see ``jobs.data.prepared``."""

from __future__ import annotations

import logging
import math
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jobs.data.ahead import threads
from jobs.data.decode import Pixels
from jobs.data.prepared import CHUNK, Prepared, Short, Square, several
from jobs.data.progress import progress
from jobs.data.streamed import LostError, Streamed
from jobs.words import byte_size

logger = logging.getLogger(__name__)

_SPARE = 1.05


class Packed(Prepared):
    """The pixels of images, as they are.

    Attributes:
        begins: int64 ``(N + 1,)``: where the pixels of each image begin in the file, and where the last ones end.
        nbytes: of the file.
    """

    def __init__(self, images: Streamed, rule: Short | Square) -> None:
        super().__init__(images, rule, ".pixels")
        areas = self.shapes.prod(1, dtype=np.int64) * images.channels
        self.begins = np.concatenate(([0], areas.cumsum()))
        self.nbytes = int(self.begins[-1])
        if isinstance(rule, Short):
            self.smaller = "data.prepare_as to jpeg, "

    @property
    def room(self) -> int:
        """Bytes that the file takes."""
        return self.nbytes

    @property
    def pixels(self) -> Pixels:
        """All of them, one image after the other: uint8 ``(nbytes,)``; read-only."""
        return self._map

    def read(self, index: int) -> Pixels:
        """Image ``index`` as uint8 ``(h, w, channels)``; read-only."""
        pixels = self._map[self.begins[index] : self.begins[index + 1]]
        return pixels.reshape(*self.shapes[index], self.images.channels)

    def _whole(self) -> bool:
        return self.path.exists() and self.path.stat().st_size == self.nbytes

    def _make(self) -> None:
        part, notes = self.path.with_suffix(".part"), self.path.with_suffix(".chunks")
        there = part.stat().st_blocks * 512 if part.exists() else 0
        self._make_room(math.ceil(self.nbytes * _SPARE) - there)
        with self._keeping(), open(part, "ab") as file:
            _allocate(file.fileno(), self.nbytes)
        mapped: Any = np.memmap(part, np.uint8, "r+") if self.nbytes else np.empty(0, np.uint8)
        done = self._noted(notes, mapped)
        todo = [start for start in range(0, len(self), CHUNK) if start not in done]
        logger.info("preparing %d images, %s", len(self), byte_size(self.nbytes))

        lost: list[LostError] = []

        def chunk(start: int) -> tuple[int, int]:
            stop = min(start + CHUNK, len(self))
            for index in range(start, stop):
                shape: Any = tuple(self.shapes[index].tolist())
                try:
                    pixels = self.rule(self.images, index, shape)
                except LostError as error:
                    lost.append(error)
                    continue
                mapped[self.begins[index] : self.begins[index + 1]] = pixels.reshape(-1)
            return start, zlib.crc32(mapped[self.begins[start] : self.begins[stop]])

        sizes = {start: min(CHUNK, len(self) - start) for start in todo}
        with self._keeping(), open(notes, "a", encoding="ascii") as log, ThreadPoolExecutor(threads()) as pool:
            advance = progress("preparing images", len(self), len(self) - sum(sizes.values()))
            try:
                for start, checksum in pool.map(chunk, todo):
                    if not lost:  # else it may be the chunk that lacks one
                        log.write(f"{start} {checksum}\n")
                        log.flush()
                    advance(sizes[start])
            finally:
                pool.shutdown(cancel_futures=True)
        if lost:
            raise several(lost, len(self))
        if self.nbytes:
            mapped.flush()
        os.replace(part, self.path)
        notes.unlink()

    def _noted(self, notes: Path, mapped: Any) -> set[int]:
        """The chunks that an earlier attempt finished, by their first image; what is not as it was noted is not one."""
        lines = notes.read_text(encoding="ascii").splitlines() if notes.exists() else []
        known = [tuple(map(int, line.split())) for line in lines if len(line.split()) == 2]
        return {
            start
            for start, checksum in known
            if zlib.crc32(mapped[self.begins[start] : self.begins[min(start + CHUNK, len(self))]]) == checksum
        }


def _allocate(file: int, size: int) -> None:
    """Give a file its size and its blocks: writing to a map of a file without them ends the process on a full disk."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)

"""Prepared photographs as pixels in one file, which is mapped into memory: ``*.pixels``, see ``jobs.data.prepared``."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jobs.allowed import cpus as threads
from jobs.data.decode import Pixels
from jobs.data.filling import Filling
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

    def filling(self) -> Filling:
        """The file in the making; whoever asks is :meth:`alone`.

        Raises:
            DataError: the disk has no room for it.
        """
        part = self.path.with_suffix(".part")
        there = part.stat().st_blocks * 512 if part.exists() else 0
        self.make_room(math.ceil(self.nbytes * _SPARE) - there)
        with self.keeping():
            return Filling(self.path, self.begins)

    def _make(self) -> None:
        filling = self.filling()
        todo = [chunk for chunk in _chunks(len(self)) if not filling.done[slice(*chunk)].all()]
        logger.info("preparing %d images, %s", len(self), byte_size(self.nbytes))
        lost: list[LostError] = []

        def make(chunk: tuple[int, int]) -> None:
            for row in range(*chunk):
                try:
                    image = self.images.read(row, self.most(row))
                except LostError as error:
                    lost.append(error)
                    continue
                filling.put(row, self.made(row, image))
            if not lost:  # else it may be the chunk that lacks one
                filling.note(*chunk)

        left = sum(last - first for first, last in todo)
        with self.keeping(), ThreadPoolExecutor(threads()) as pool:
            advance = progress("preparing images", len(self), len(self) - left)
            try:
                for (first, last), _ in zip(todo, pool.map(make, todo), strict=True):
                    advance(last - first)
            finally:
                pool.shutdown(cancel_futures=True)
        if lost:
            raise several(lost, len(self))
        filling.finish()


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, CHUNK):
        yield first, min(first + CHUNK, count)

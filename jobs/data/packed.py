"""Photographs made smaller once: their pixels in one file, which is mapped into memory and shared by all processes of a
machine, for all its runs.

The file is ``ORCHESTRATOR_HOME/cache/prepared/*.pixels``. It is made on all cores, and resumed where a kill cut it
short: finished chunks are noted with their checksums. Where a disk has no room for another one, those that were not
used for longest are deleted.
"""

from __future__ import annotations

import logging
import os
import shutil
import zlib
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.augment.resample import resized
from jobs.data.ahead import threads
from jobs.data.cache import cached, key
from jobs.data.decode import DataError, Pixels, fit
from jobs.data.progress import progress
from jobs.data.streamed import GAP, LostError, Streamed
from jobs.lock import LONG_S, Lock
from jobs.words import byte_size

logger = logging.getLogger(__name__)

_FORMAT = 1
"""Raise it when a change here or in ``decode`` gives other pixels."""
_CHUNK = 64
_SPARE = 1.05
_SHOWN = 10


@dataclass(frozen=True)
class Short:
    """Images of a larger short side get this one, in pixels (bicubic, antialiased); others stay as they are."""

    side: int

    def shapes(self, shapes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Heights and widths ``(N, 2)`` after it."""
        short = shapes.min(1, keepdims=True)
        sized = np.rint(shapes * (self.side / short)).astype(np.int32)
        return np.where(short > self.side, np.maximum(sized, self.side), shapes)

    def __call__(self, images: Streamed, index: int, shape: tuple[int, int]) -> Pixels:
        """Image ``index`` in its new shape."""
        image = images.read(index, max(1, int(images.shapes[index].min()) // (GAP * self.side)))
        return image if image.shape[:2] == shape else resized(image, shape, "bicubic").numpy()


@dataclass(frozen=True)
class Square:
    """What is scored: the central square, as ``jobs.data.decode.fit`` makes it."""

    size: int
    crop_ratio: float

    def shapes(self, shapes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Heights and widths ``(N, 2)`` after it."""
        return np.full_like(shapes, self.size)

    def __call__(self, images: Streamed, index: int, shape: tuple[int, int]) -> Pixels:
        """Image ``index`` in its new shape."""
        return fit(images.read(index), self.size, self.crop_ratio)


class Packed:
    """Images in a file of their own: a ``jobs.data.sets.Stored``.

    Args:
        images: as they are stored, with their shapes; their store must have a stamp.
        rule: what is made of them.

    Attributes:
        begins: int64 ``(N + 1,)``: where the pixels of each image begin in the file, and where the last ones end.
        nbytes: of the file.
    """

    def __init__(self, images: Streamed, rule: Short | Square) -> None:
        self.images, self.rule = images, rule
        self.labels, self.shapes = images.labels, rule.shapes(images.shapes)
        areas = self.shapes.prod(1, dtype=np.int64) * images.channels
        self.begins = np.concatenate(([0], areas.cumsum()))
        self.nbytes = int(self.begins[-1])
        store = images.store
        how = type(store).__name__, store.stamp, store.exif_orientation, images.channels, rule
        self.path = cached("prepared", key(_FORMAT, *how, images.index.tobytes()), ".pixels")
        self._mapped: Pixels | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the map, which belongs to the process."""
        return {**self.__dict__, "_mapped": None}

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def pixels(self) -> Pixels:
        """All of them, one image after the other: uint8 ``(nbytes,)``; read-only."""
        if self._mapped is None:
            self.here()
            self._mapped = np.memmap(self.path, np.uint8, "r")
        return self._mapped

    def read(self, index: int) -> Pixels:
        """Image ``index`` as uint8 ``(h, w, channels)``; read-only."""
        pixels = self.pixels[self.begins[index] : self.begins[index + 1]]
        return pixels.reshape(*self.shapes[index], self.images.channels)

    def coming(self, index: NDArray[np.int64]) -> Sequence[Hashable]:
        """Nothing: all are here."""
        return ()

    def expect(self, coming: Sequence[Any], done: Sequence[Any]) -> None:
        """Nothing to do."""
        return

    def cut(self, index: int, box: Sequence[int], size: int) -> Pixels:
        """A box of image ``index`` (top, left, height, width)."""
        top, left, tall, wide = box
        return self.read(index)[top : top + tall, left : left + wide]

    def fitted(self, index: int, size: int, crop_ratio: float) -> Pixels:
        """The central square of image ``index``, ``(size, size, channels)``."""
        image = self.read(index)
        return image if self.rule == Square(size, crop_ratio) else fit(image, size, crop_ratio)

    def here(self) -> None:
        """Make the file, unless this machine has it.

        Raises:
            DataError: the disk has no room for it, or an image can no longer be read.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._whole():
            self.images.here()
            with Lock(self.path.with_suffix(".lock"), LONG_S):
                if not self._whole():
                    self._make()
        os.utime(self.path)

    def _whole(self) -> bool:
        return self.path.exists() and self.path.stat().st_size == self.nbytes

    def _make(self) -> None:
        part, notes = self.path.with_suffix(".part"), self.path.with_suffix(".chunks")
        self._make_room(part)
        with self._keeping(), open(part, "ab") as file:
            _allocate(file.fileno(), self.nbytes)
        mapped: Any = np.memmap(part, np.uint8, "r+") if self.nbytes else np.empty(0, np.uint8)
        done = self._noted(notes, mapped)
        todo = [start for start in range(0, len(self), _CHUNK) if start not in done]
        logger.info("preparing %d images, %s", len(self), byte_size(self.nbytes))

        lost: list[LostError] = []

        def chunk(start: int) -> tuple[int, int]:
            stop = min(start + _CHUNK, len(self))
            for index in range(start, stop):
                shape: Any = tuple(self.shapes[index].tolist())
                try:
                    pixels = self.rule(self.images, index, shape)
                except LostError as error:
                    lost.append(error)
                    continue
                mapped[self.begins[index] : self.begins[index + 1]] = pixels.reshape(-1)
            return start, zlib.crc32(mapped[self.begins[start] : self.begins[stop]])

        sizes = {start: min(_CHUNK, len(self) - start) for start in todo}
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
            raise _several(lost, len(self))
        if self.nbytes:
            mapped.flush()
        os.replace(part, self.path)
        notes.unlink()

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"cannot keep prepared images in {self.path.parent}: {error.strerror}") from error

    def _noted(self, notes: Path, mapped: Any) -> set[int]:
        """The chunks that an earlier attempt finished, by their first image; what is not as it was noted is not one."""
        lines = notes.read_text(encoding="ascii").splitlines() if notes.exists() else []
        known = [tuple(map(int, line.split())) for line in lines if len(line.split()) == 2]
        return {
            start
            for start, checksum in known
            if zlib.crc32(mapped[self.begins[start] : self.begins[min(start + _CHUNK, len(self))]]) == checksum
        }

    def _make_room(self, part: Path) -> None:
        """Delete the files that were not used for longest until there is room for this one."""
        there = part.stat().st_blocks * 512 if part.exists() else 0
        others = sorted(self.path.parent.glob("*.pixels"), key=lambda path: path.stat().st_mtime)
        while shutil.disk_usage(self.path.parent).free + there < self.nbytes * _SPARE:
            if not others:
                free = byte_size(shutil.disk_usage(self.path.parent).free)
                raise DataError(
                    f"prepared images take {byte_size(self.nbytes)}, but {self.path.parent} has {free} left; free some "
                    "space, set ORCHESTRATOR_HOME to another disk, or data.prepare to false or to a smaller side"
                )
            oldest = others.pop(0)
            logger.warning("deleting %s, prepared images of another data set, to make room", oldest)
            oldest.unlink(missing_ok=True)


def _several(lost: Sequence[LostError], count: int) -> DataError:
    """One error for all images that cannot be read."""
    if len(lost) == 1:
        return lost[0]
    lines = sorted(f"\n  {error.name}: {error.reason}" for error in lost)
    shown = "".join(lines[:_SHOWN]) + ("\n  ..." if len(lines) > _SHOWN else "")
    return DataError(f"{len(lost)} of {count} images cannot be read:{shown}\n{lost[0].cure}")


def _allocate(file: int, size: int) -> None:
    """Give a file its size and its blocks: writing to a map of a file without them ends the process on a full disk."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)

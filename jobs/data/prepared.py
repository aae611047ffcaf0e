"""Photographs made smaller once, in a file that all processes of a machine share, for all its runs: what pixels
(``jobs.data.packed``) and JPEG (``jobs.data.jpegs``) have in common.

The file is in ``ORCHESTRATOR_HOME/cache/prepared``. It is made on all cores, and resumed where a kill cut it short:
finished chunks are noted with their checksums. Where a disk has no room for another one, those that were not used for
longest are deleted.
"""

from __future__ import annotations

import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.data.cache import cached, key
from jobs.data.decode import DataError, Pixels, fit
from jobs.data.streamed import GAP, LostError, Streamed
from jobs.lock import LONG_S, Lock, holder
from jobs.words import byte_size

logger = logging.getLogger(__name__)

_FORMAT = 1
"""Raise it when a change here or in ``decode`` gives other pixels."""
CHUNK = 64
"""Images that a thread makes at a time, and that have a checksum in common."""
_SHOWN = 10
_SUFFIXES, _PART = {".pixels", ".jpegs"}, ".part"


@dataclass(frozen=True)
class Short:
    """Images of a larger short side get this one, in pixels (bicubic, antialiased); others stay as they are."""

    side: int

    def shapes(self, shapes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Heights and widths ``(N, 2)`` after it."""
        short = shapes.min(1, keepdims=True)
        sized = np.rint(shapes * (self.side / short)).astype(np.int32)
        return np.where(short > self.side, np.maximum(sized, self.side), shapes)

    def most(self, shape: tuple[int, int]) -> int:
        """How many times smaller a JPEG of that shape may be decoded."""
        return max(1, min(shape) // (GAP * self.side))

    def __call__(self, image: Pixels, shape: tuple[int, int]) -> Pixels:
        """The image in its new shape."""
        if image.shape[:2] == shape:
            return image
        from jobs.augment.resample import resized  # imports torch, which a spec does not need

        return resized(image, shape, "bicubic").numpy()


@dataclass(frozen=True)
class Square:
    """What is scored: the central square, as ``jobs.data.decode.fit`` makes it."""

    size: int
    crop_ratio: float

    def shapes(self, shapes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Heights and widths ``(N, 2)`` after it."""
        return np.full_like(shapes, self.size)

    def most(self, shape: tuple[int, int]) -> int:
        """1: what is scored is made from the whole image."""
        return 1

    def __call__(self, image: Pixels, shape: tuple[int, int]) -> Pixels:
        """The square."""
        return fit(image, self.size, self.crop_ratio)


class Prepared(ABC):
    """Images in a file of their own: a ``jobs.data.sets.Stored``.

    Args:
        images: as they are stored, with their shapes; their store must have a stamp.
        rule: what is made of them.
        suffix: of the file.
        how: of what else the file's content is.
    """

    def __init__(self, images: Streamed, rule: Short | Square, suffix: str, *how: object) -> None:
        self.images, self.rule = images, rule
        self.labels, self.shapes = images.labels, rule.shapes(images.shapes)
        store = images.store
        of = type(store).__name__, store.stamp, store.exif_orientation, images.channels, rule
        self.path = cached("prepared", key(_FORMAT, *of, images.index.tobytes(), *how), suffix)
        self._mapped: Pixels | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the map, which belongs to the process."""
        return {**self.__dict__, "_mapped": None}

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    smaller = ""
    """What may be set for the file to take less room."""
    about = ""
    """Says that ``room`` is an estimate, where it is one."""

    @abstractmethod
    def read(self, index: int) -> Pixels:
        """Image ``index`` as uint8 ``(h, w, channels)``."""

    @property
    @abstractmethod
    def room(self) -> int:
        """Bytes that the file takes, or will take, about."""

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
        if not self._whole():
            self.images.here()
            with self.alone() as whole:
                if not whole:
                    self._make()
        os.utime(self.path)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Of several processes one makes the file, the others wait; whether it is there by now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with Lock(self.path.with_suffix(".lock"), LONG_S):
            yield self._whole()

    def most(self, row: int) -> int:
        """How many times smaller image ``row`` may be decoded for :meth:`made`, where it is a JPEG."""
        height, width = self.images.shapes[row].tolist()
        return self.rule.most((height, width))

    def made(self, row: int, image: Pixels) -> Pixels:
        """What is kept of image ``row``, decoded."""
        height, width = self.shapes[row].tolist()
        return self.rule(image, (height, width))

    @abstractmethod
    def _whole(self) -> bool:
        """Whether the file is there and complete."""

    @abstractmethod
    def _make(self) -> None:
        """Make the file, beginning where an earlier attempt stopped."""

    @property
    def _map(self) -> Pixels:
        """The bytes of the file: uint8, read-only."""
        if self._mapped is None:
            self.here()
            self._mapped = np.asarray(np.memmap(self.path, np.uint8, "r"))  # slices of a memmap take longer
        return self._mapped

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Turns errors of the disk that the file is on into a :class:`DataError`."""
        try:
            yield
        except OSError as error:
            raise DataError(f"cannot keep prepared images in {self.path.parent}: {error.strerror}") from error

    def make_room(self, need: int) -> None:
        """Delete the files that were not used for longest until there are so many bytes free.

        Raises:
            DataError: there are not, and nothing is left to delete.
        """
        while shutil.disk_usage(self.path.parent).free < need:
            others = sorted(filter(self._unneeded, self.path.parent.iterdir()), key=lambda path: path.stat().st_mtime)
            if not others:
                free = byte_size(shutil.disk_usage(self.path.parent).free)
                raise DataError(
                    f"prepared images take {self.about}{byte_size(self.room)}, but {self.path.parent} has {free} left; "
                    f"free some space, set ORCHESTRATOR_HOME to another disk, or {self.smaller}data.prepare to false "
                    "or to a smaller side"
                )
            logger.warning("deleting %s, prepared images of another data set, to make room", others[0])
            others[0].unlink(missing_ok=True)

    def _unneeded(self, path: Path) -> bool:
        """Whether a file holds other images: all of them, or what an attempt that was ended left."""
        if path.suffix == _PART:
            return path.stem != self.path.stem and holder(path.with_suffix(".lock")) is None
        return path.suffix in _SUFFIXES


def several(lost: Sequence[LostError], count: int) -> DataError:
    """One error for all images that cannot be read."""
    if len(lost) == 1:
        return lost[0]
    lines = sorted(f"\n  {error.name}: {error.reason}" for error in lost)
    shown = "".join(lines[:_SHOWN]) + ("\n  ..." if len(lines) > _SHOWN else "")
    return DataError(f"{len(lost)} of {count} images cannot be read:{shown}\n{lost[0].cure}")

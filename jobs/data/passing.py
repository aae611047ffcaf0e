"""Prepared images that are made in passing, while all images of a store are decoded in order to look at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np
from numpy.typing import NDArray

from jobs.data.decode import Pixels
from jobs.data.filling import Filling
from jobs.data.jpegs import Jpegs, Waiting
from jobs.data.packed import Packed


class Passing:
    """Fills the file of some images of a store. What it lacks in the end is made by its own ``here``.

    Args:
        packed: the images, in the store's order.
        good: int64 ``(M,)``: all images of the store that are believed to be readable. Where one of them is not, the
            splits are others, and nobody needs this file.
    """

    def __init__(self, packed: Packed | Jpegs, good: NDArray[np.int64]) -> None:
        self._packed, self._index, self._good = packed, packed.images.index, good
        self._filling: Filling | Waiting | None = None
        self._wrong = False

    @contextmanager
    def open(self) -> Iterator[Self]:
        """Make the file, or continue it; a whole one is left as it is.

        Raises:
            DataError: the disk has no room for it, or fails.
        """
        with self._packed.alone() as whole:
            if whole:
                yield self
                return
            self._filling = filling = self._packed.filling()
            yield self
            with self._packed.keeping():
                if self._wrong:
                    filling.drop()
                elif filling.done.all():
                    filling.finish()

    def rows(self, start: int, stop: int) -> dict[int, int]:
        """The rows that are still to be filled of the store's images ``start`` to ``stop``, exclusive, by image."""
        if self._filling is None or self._wrong:
            return {}
        rows = range(*self._range(start, stop))
        return {int(self._index[row]): row for row in rows if not self._filling.done[row]}

    def most(self, row: int) -> int:
        """How many times smaller its image may be decoded, where it is a JPEG."""
        return self._packed.most(row)

    def put(self, row: int, image: Pixels, shape: tuple[int, int]) -> None:
        """Fill a row.

        Args:
            row: of the file.
            image: the row's image, decoded as :meth:`most` says.
            shape: its own height and width.
        """
        assert self._filling is not None
        if tuple(self._packed.images.shapes[row].tolist()) != shape:
            self._wrong = True
        else:
            self._filling.put(row, self._packed.made(row, image))

    def lose(self, index: int) -> None:
        """An image of the store is unreadable."""
        self._wrong |= bool((self._good == index).any())

    def note(self, start: int, stop: int) -> None:
        """All rows of these images of the store are filled.

        Raises:
            DataError: the disk is full.
        """
        first, last = self._range(start, stop)
        if self._filling is not None and not self._wrong and not self._filling.done[first:last].all():
            with self._packed.keeping():
                self._filling.note(first, last)

    def _range(self, start: int, stop: int) -> tuple[int, int]:
        first, last = np.searchsorted(self._index, (start, stop)).tolist()
        return first, last

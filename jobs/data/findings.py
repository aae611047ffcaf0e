"""What is found out about images by reading each of them once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.data.decode import Pixels


@dataclass(frozen=True)
class Scan:
    """What was found.

    Attributes:
        errors: reasons, by index, of the images that cannot be read; the rows below mean nothing there.
        shapes: int32 ``(N, 3)``: height, width and channels of the images as stored.
        hashes: uint8 ``(N, 16)``: what identifies the image's content; ``(N, 0)`` of :func:`headers`.
        sums: uint64 ``(N, 2, channels)``: sum of the sized image's pixel values, and of their squares; ``(N, 2, 0)``
            where they were not taken.
        pixels: uint8 ``(N, size, size, channels)``, perhaps read-only; None where not asked for.
        area: how many pixels of each image the sums are of; None where that is ``size`` times ``size``.
    """

    errors: dict[int, str]
    shapes: NDArray[np.int32]
    hashes: NDArray[np.uint8]
    sums: NDArray[np.uint64]
    pixels: Pixels | None
    area: int | None = None

    @classmethod
    def empty(cls, count: int, channels: int, pixels: Pixels | None = None, hashed: bool = True) -> Scan:
        """To be filled; without sums where ``channels`` is 0."""
        hashes, sums = np.zeros((count, 16 * hashed), np.uint8), np.zeros((count, 2, channels), np.uint64)
        return cls({}, np.zeros((count, 3), np.int32), hashes, sums, pixels)

    @property
    def good(self) -> NDArray[np.int64]:
        """Indices of the readable images, in order."""
        good = np.ones(len(self.shapes), bool)
        good[list(self.errors)] = False
        return np.flatnonzero(good)

    def part(self, first: int, last: int) -> Scan:
        """The findings of some images, without their pixels."""
        errors = {index - first: reason for index, reason in self.errors.items() if first <= index < last}
        return Scan(errors, self.shapes[first:last], self.hashes[first:last], self.sums[first:last], None)

    def take(self, part: Scan, first: int) -> None:
        """Put the findings of some images into their place."""
        rows = slice(first, first + len(part.shapes))
        self.errors.update({first + index: reason for index, reason in part.errors.items()})
        self.shapes[rows], self.hashes[rows], self.sums[rows] = part.shapes, part.hashes, part.sums

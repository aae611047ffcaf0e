"""What is known of the images of a shard, so that the shard need not be read to open a data set."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.data.cache import atomic
from jobs.data.decode import SIDEWAYS, Pixels, UnreadableError, decoded, turn
from jobs.data.findings import Scan
from jobs.data.formats import FORMATS

AREA = 2**16
"""Of how many pixels the sums are: the mean of an image's pixels, and of their squares, times this fit into 32 bits."""
_UPRIGHT, _TURNED, _SIDEWAYS = range(3)
_LEVELS = np.arange(256, dtype=np.int64)
_READING = threading.Lock()
"""NumPy parses the header of an array with ``ast``, of which Python up to 3.11.7 has one state for all threads: two at
a time may end with SystemError (cpython issue 106905)."""


class Sample(NamedTuple):
    """An image in a shard: where its bytes begin in the copy, the bytes, and the label as it is written."""

    offset: int
    data: bytes
    label: str


@dataclass(frozen=True)
class Facts:
    """What is known of images, a row each.

    Attributes:
        offsets, sizes: int64 ``(N,)``: where the image is in the copy of the shard, and its bytes.
        labels: int64 ``(N,)``: indices into ``words``.
        words: the labels that occur, as they are written.
        shapes: int32 ``(N, 3)``: height, width and channels as stored; zeros where the image cannot be read.
        turns: uint8 ``(N,)``: whether EXIF leaves it (0), turns it (1), or turns it so that height and width change
            places (2).
        hashes: uint8 ``(N, 16)``: of the bytes.
        sums: uint32 ``(N, 2, 4)``: mean of the central square's pixels and of their squares, times :data:`AREA`, for
            red, green, blue and luma.
        errors: why images cannot be read, by their indices.
    """

    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    words: NDArray[np.str_]
    shapes: NDArray[np.int32]
    turns: NDArray[np.uint8]
    hashes: NDArray[np.uint8]
    sums: NDArray[np.uint32]
    errors: Mapping[int, str]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.offsets)

    @classmethod
    def of(cls, samples: Iterable[tuple[Sample, Row]]) -> Self:
        """The facts of images, from what :func:`row` says of each."""
        found = [(sample.offset, len(sample.data), sample.label, *row) for sample, row in samples]
        offsets, sizes, labels, shapes, turns, hashes, sums, reasons = zip(*found, strict=True) if found else ((),) * 8
        words, numbers = np.unique(np.array(labels, np.str_), return_inverse=True)
        return cls(
            np.array(offsets, np.int64),
            np.array(sizes, np.int64),
            numbers.astype(np.int64),
            words,
            np.array(shapes, np.int32).reshape(-1, 3),
            np.array(turns, np.uint8),
            np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16),
            np.array(sums, np.uint32).reshape(-1, 2, 4),
            {index: reason for index, reason in enumerate(reasons) if reason},
        )

    @classmethod
    def joined(cls, several: Sequence[Facts]) -> Self:
        """The facts of several shards as those of one; offsets are into each still."""
        words = np.unique(np.concatenate([each.words for each in several]))
        labels = [np.searchsorted(words, each.words)[each.labels] for each in several]
        begins = np.cumsum([0, *map(len, several)]).tolist()
        errors = {
            begin + index: reason
            for begin, each in zip(begins, several, strict=False)
            for index, reason in each.errors.items()
        }
        rest = {name: np.concatenate([getattr(each, name) for each in several]) for name in _ROWS}
        return cls(labels=np.concatenate(labels).astype(np.int64), words=words, errors=errors, **rest)

    def part(self, start: int, stop: int) -> Facts:
        """Those of some images."""
        rest = {name: getattr(self, name)[start:stop] for name in ("labels", *_ROWS)}
        errors = {index - start: reason for index, reason in self.errors.items() if start <= index < stop}
        return Facts(words=self.words, errors=errors, **rest)

    def scan(self, channels: int, exif_orientation: bool) -> Scan:
        """As what a pass over the images would have found, without pixels."""
        shapes, hashes = self.shapes.copy(), self.hashes
        if exif_orientation:
            sideways = self.turns == _SIDEWAYS
            shapes[sideways, :2] = shapes[sideways, 1::-1]
            hashes = hashes ^ np.where(self.turns, 255, 0).astype(np.uint8)[:, None]  # turned, it has other pixels
        sums = self.sums[:, :, :3] if channels == 3 else self.sums[:, :, 3:]
        return Scan(dict(self.errors), shapes, hashes, sums.astype(np.uint64), None, AREA)

    def save(self, path: Path, **more: str) -> None:
        """Keep them in a file, with texts besides."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ("labels", "words", *_ROWS)} | more
        with atomic(path) as beside, open(beside, "wb") as file:
            np.savez_compressed(file, **arrays, errors=json.dumps(self.errors))

    @classmethod
    def load(cls, path: str | Path) -> tuple[Self, dict[str, str]]:
        """What :meth:`save` kept.

        Raises:
            OSError, ValueError, KeyError, EOFError, BadZipFile: there is no such file, or it is damaged.
        """
        with _READING, np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("labels", "words", *_ROWS)}
            errors = {int(index): reason for index, reason in json.loads(str(file["errors"])).items()}
            return cls(errors=errors, **arrays), {n: str(file[n]) for n in file.files if n not in arrays}


_ROWS = ("offsets", "sizes", "shapes", "turns", "hashes", "sums")


class Row(NamedTuple):
    """What is known of one image; see :class:`Facts`."""

    shape: tuple[int, int, int]
    turn: int
    hash: bytes
    sums: Any
    reason: str


def row(data: bytes) -> Row:
    """Decode an image and say what is known of it then."""
    digest = hashlib.blake2b(data, digest_size=16).digest()
    try:
        found = decoded(data, 3, True)
    except UnreadableError as error:
        return Row((0, 0, 0), _UPRIGHT, digest, np.zeros((2, 4), np.uint32), str(error))
    (height, width), turned = found.pixels.shape[:2], _UPRIGHT
    if found.turned:
        turned = _TURNED
        if turn(Image.open(io.BytesIO(data), formats=FORMATS)) in SIDEWAYS:
            turned, height, width = _SIDEWAYS, width, height
    return Row((height, width, found.native_channels), turned, digest, _moments(found.pixels), "")


def _moments(image: Pixels) -> NDArray[np.uint32]:
    """Of the central square; luma is ITU-R 601's as Pillow computes it."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top : top + side, left : left + side].astype(np.int32)
    luma = (square @ np.array([19595, 38470, 7471], np.int32) + 0x8000) >> 16
    planes = [square[..., 0], square[..., 1], square[..., 2], luma]
    counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in planes], 1)
    sums = np.stack((_LEVELS @ counts, _LEVELS**2 @ counts))
    found: NDArray[np.uint32] = ((sums * AREA + side * side // 2) // (side * side)).astype(np.uint32)
    return found

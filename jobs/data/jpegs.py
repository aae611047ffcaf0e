"""Photographs made smaller once and kept as JPEG, where their pixels would take too much of a disk.

The file, ``ORCHESTRATOR_HOME/cache/prepared/*.jpegs``, is one JPEG after the other, and then where each begins: int64
``(N + 1,)``, little-endian. It takes a ninth of the room of pixels. Loader processes decode it, so no GPU holds it.

Quality 90 with half of the colours' columns (4:2:2) is as near to the pixels as 95 with a quarter of them (4:2:0), in
less room and time. docs/photographs.md has figures.
"""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from jobs.allowed import cpus as threads
from jobs.data import jpeg
from jobs.data.ahead import ahead
from jobs.data.decode import DataError, Pixels
from jobs.data.prepared import CHUNK, Prepared, Short, several
from jobs.data.progress import progress
from jobs.data.streamed import LostError, Streamed, boxed, smaller
from jobs.words import byte_size

logger = logging.getLogger(__name__)

QUALITY, SUBSAMPLING = 90, "422"
JPEG = f"jpeg {QUALITY} {SUBSAMPLING}"
"""What tells these images from others, in the digest of a data set."""
_LONGEST = 65_500
"""Largest height and width that the library encodes."""
_BYTES_A_PIXEL, _TABLES = 1 / 3, 600
"""What photographs take at this quality, and what any file takes."""
_SPARE = 2**20
_MOST_WAITING = 2**12


class Jpegs(Prepared):
    """Images as JPEG: a ``jobs.data.sets.Stored``.

    Args:
        images: as they are stored, with their shapes; their store must have a stamp.
        rule: what is made of them.

    Raises:
        ValueError: an image would be too long for JPEG.
    """

    about = "about "

    def __init__(self, images: Streamed, rule: Short) -> None:
        super().__init__(images, rule, ".jpegs", JPEG)
        if len(self) and self.shapes.max() > _LONGEST:
            height, width = self.shapes[self.shapes.max(1).argmax()].tolist()
            raise ValueError(
                f"an image would be {height}x{width}, and JPEG ends at {_LONGEST:,} pixels; "
                "set data.prepare_as to pixels"
            )

    @property
    def room(self) -> int:
        """Bytes that the file takes, about."""
        return int(self.shapes.prod(1, dtype=np.int64).sum() * _BYTES_A_PIXEL + _TABLES * len(self))

    def read(self, index: int, most: int = 1) -> Pixels:
        """Image ``index`` as uint8 ``(h, w, channels)``, in its own size or at least 1/``most`` of it.

        Raises:
            DataError: the file was damaged since it was made.
        """
        begin, end = self._begins[index : index + 2].tolist()
        found = jpeg.decode(self._map[begin:end].tobytes(), self.images.channels, most)
        if found is None:
            raise DataError(f"{self.path} is damaged; delete it, and it is made anew")
        return found[0]

    def cut(self, index: int, box: Sequence[int], size: int) -> Pixels:
        """A box of image ``index`` (top, left, height, width), perhaps smaller than it is: see ``Streamed.cut``."""
        height, width = self.shapes[index].tolist()
        return boxed(self.read(index, smaller(box, size)), box, (height, width))

    @property
    def _begins(self) -> NDArray[np.int64]:
        """Where each image begins in the file, and where the last one ends."""
        begins: NDArray[np.int64] = self._map[-8 * (len(self) + 1) :].view("<i8")
        return begins

    def _whole(self) -> bool:
        index = 8 * (len(self) + 1)
        if not self.path.exists() or (size := self.path.stat().st_size) < index:
            return False
        with open(self.path, "rb") as file:
            file.seek(size - 8)
            return int.from_bytes(file.read(8), "little") + index == size

    def filling(self) -> Waiting:
        """The file in the making; whoever asks is :meth:`alone`.

        Raises:
            DataError: the disk has no room for it.
        """
        with self.keeping():
            return Waiting(self._appending())

    def _appending(self) -> Appending:
        appending = Appending(self)
        self.make_room(self.room - sum(appending.sizes))
        return appending

    def _make(self) -> None:
        with self.keeping():
            appending = self._appending()
            logger.info("preparing %d images as JPEG, about %s", len(self), byte_size(self.room))
            for chunk in self._chunks(len(appending.sizes)):
                appending.append(chunk)
            appending.finish()

    def _chunks(self, first: int) -> Iterator[list[bytes]]:
        """The images from ``first`` on, some at a time; none after one that cannot be read.

        Raises:
            DataError: some of them cannot be read; at the end, when all have been tried.
        """
        lost: list[LostError] = []

        def chunk(start: int) -> list[bytes]:
            made = []
            for index in range(start, min(start + CHUNK, len(self))):
                try:
                    image = self.images.read(index, self.most(index))
                    made.append(_encoded(self.made(index, image)))
                except LostError as error:
                    lost.append(error)
            return made

        starts = range(first, len(self), CHUNK)
        advance = progress("preparing images", len(self), first)
        for start, made in zip(starts, ahead(chunk, starts, 4 * threads()), strict=True):
            if not lost:  # else it may be the chunk that lacks one
                yield made
            advance(min(CHUNK, len(self) - start))
        if lost:
            raise several(lost, len(self))


class Appending:
    """The file in the making: images are added at its end, and noted with a checksum, so a killed process loses few.

    Args:
        made: what is made.

    Attributes:
        sizes: bytes of each image that is in it, those of an earlier attempt included.

    Raises:
        OSError: of the disk.
    """

    def __init__(self, made: Jpegs) -> None:
        self.made = made
        self._part, self._notes = made.path.with_suffix(".part"), made.path.with_suffix(".chunks")
        with open(self._part, "ab+") as file, open(self._notes, "ab+") as log:
            self.sizes = _noted(file, log)

    def append(self, chunk: Sequence[bytes]) -> None:
        """Add the next images.

        Raises:
            OSError, DataError: of the disk.
        """
        content, lengths = b"".join(chunk), [len(each) for each in chunk]
        self.made.make_room(len(content) + _SPARE)
        with open(self._part, "ab") as file:
            file.write(content)
        with open(self._notes, "ab") as log:
            log.write(f"{' '.join(map(str, lengths))} {zlib.crc32(content)}\n".encode())
        self.sizes += lengths

    def finish(self) -> None:
        """Add where each begins, and give the file its name; all images are in it.

        Raises:
            OSError: of the disk.
        """
        with open(self._part, "ab") as file:
            file.write(np.cumsum([0, *self.sizes], dtype="<i8").tobytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._part, self.made.path)
        self._notes.unlink()

    def drop(self) -> None:
        """Delete what there is of it."""
        self._part.unlink()
        self._notes.unlink()


class Waiting:
    """The same for images that come in nearly their order, from several threads: see ``jobs.data.filling.Filling``.

    Those that come early wait for those before them; what comes too early is not kept.
    """

    def __init__(self, appending: Appending) -> None:
        self._appending, self._lock = appending, threading.Lock()
        self._images, self._ranges = dict[int, bytes](), dict[int, int]()
        self._first = len(appending.sizes)
        self.done = np.arange(len(appending.made)) < self._first

    def put(self, row: int, pixels: Pixels) -> None:
        """Keep a row until it is its turn, unless that is far away."""
        if row < len(self._appending.sizes) + _MOST_WAITING:
            self._images[row] = _encoded(pixels)

    def note(self, first: int, last: int) -> None:
        """The rows ``first`` to ``last``, exclusive, are there.

        Raises:
            OSError, DataError: of the disk.
        """
        with self._lock:
            self._ranges[max(first, self._first)] = last
            sizes = self._appending.sizes
            while last := self._ranges.pop(len(sizes), 0):
                rows = range(len(sizes), last)
                if not all(row in self._images for row in rows):
                    break  # some were too early
                self._appending.append([self._images.pop(row) for row in rows])
                self.done[rows.start : last] = True

    def finish(self) -> None:
        """See :class:`Appending`."""
        self._appending.finish()

    def drop(self) -> None:
        """See :class:`Appending`."""
        self._appending.drop()


def _encoded(image: Pixels) -> bytes:
    space, sampling = ("GRAY", "Gray") if image.shape[2] == 1 else ("RGB", SUBSAMPLING)
    found: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), QUALITY, space, sampling)
    return found


def _noted(file: BinaryIO, log: BinaryIO) -> list[int]:
    """Bytes of each image of the chunks that an earlier attempt finished; what follows them is cut off both files."""
    sizes: list[int] = []
    file.seek(0)
    log.seek(0)
    kept = 0
    for line in log:
        *lengths, checksum = map(int, line.split()) if line.endswith(b"\n") else [0]
        if not lengths or zlib.crc32(file.read(sum(lengths))) != checksum:
            break
        sizes += lengths
        kept += len(line)
    file.truncate(sum(sizes))
    log.truncate(kept)
    return sizes

"""Images where they lie: what every kind of source gives, before it is decided what is decoded when."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.data.cache import key
from jobs.data.decode import (
    DataError,
    Decoded,
    Pixels,
    UnreadableError,
    decode,
    decoded,
    fit,
    header,
    native_channels,
    pixels,
    upright,
)
from jobs.data.findings import Scan
from jobs.names import printable

GAP = 2
"""What libjpeg-turbo leaves of an image that it makes smaller is at least so many times what is wanted in the end."""
UNCHECKED = (
    "data.check: sizes looked at names and headers alone; set it to full, which finds and names all such images before "
    "training and can skip some (data.max_corrupt)"
)
"""What to do about an image that turned out to be unreadable."""
_TURNED = b"upright"
"""Follows the bytes of an image that was turned, which gives other pixels than the same bytes unturned."""


class Store(ABC):
    """Labelled images of one split that can be read in any order, from many threads and after pickling.

    Attributes:
        labels: int64 ``(N,)``.
        stamp: changes whenever the images may have changed (paths, sizes, times of change), so that what was found out
            about them can be kept; None where nothing is kept.
        listed: stands for the images' names and lengths in bytes, in order, whatever their times of change; empty where
            these are not known before an image is read.
        exif_orientation: whether images are turned as their EXIF says.
        note: how much is fetched from where, for people; empty where the images lie on this machine.
        places: int32 ``(N,)``, ascending: the shard that each image is in; None where all are equally near.
        lanes: shards that are read side by side.
    """

    labels: NDArray[np.int64]
    stamp: str | None = None
    listed: str = ""
    exif_orientation: bool = True
    note: str = ""
    places: NDArray[np.int32] | None = None
    lanes: int = 1

    @abstractmethod
    def load(self, index: int) -> tuple[Image.Image, bytes]:
        """Image ``index``, decoded, and the bytes that tell it from any other.

        Raises:
            UnreadableError: there is no such image to be had.
        """

    def decoded(self, index: int, channels: int, most: int = 1) -> tuple[Decoded, bytes]:
        """Image ``index`` as pixels, and the bytes that tell it from any other; see :func:`jobs.data.decode.decoded`.

        Raises:
            UnreadableError: there is no such image to be had.
        """
        image, identity = self.load(index)
        return Decoded(pixels(image, channels), native_channels(image), False), identity

    def header(self, index: int) -> tuple[int, int, int]:
        """Height, width and own channels of image ``index``, of which as little is read as may be.

        Raises:
            UnreadableError: there is no such image to be had, as far as that was looked at.
        """
        image, _ = self.load(index)
        return image.height, image.width, native_channels(image)

    @abstractmethod
    def name(self, index: int) -> str:
        """Where image ``index`` lies, for people."""

    def shape(self, index: int) -> tuple[int, int, int]:
        """Height, width and native channels of image ``index``.

        Raises:
            UnreadableError: there is no such image to be had.
        """
        image, _ = self.load(index)
        return image.height, image.width, native_channels(image)

    def known(self, channels: int) -> Scan | None:
        """What a pass over all images would find, without pixels, where that is known; else None."""
        return None

    def coming(self, index: NDArray[np.int64]) -> Sequence[Hashable]:
        """What has to be fetched for some images, for :meth:`expect`; nothing where they are here anyway."""
        return ()

    def expect(self, coming: Sequence[Any], done: Sequence[Any]) -> None:
        """Fetch what is coming in the background, and give up what is done for now."""
        return

    def here(self) -> None:
        """Make sure that this machine has what :meth:`load` reads; it may have come from another one.

        Raises:
            ValueError: it cannot be had.
        """
        return

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


class Encoded(Store):
    """Images that are stored as encoded bytes."""

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """The bytes of image ``index``; empty where there are none."""

    def open(self, index: int) -> IO[bytes]:
        """The same as an open file.

        Raises:
            OSError: it is not there, or may not be read.
        """
        return BytesIO(self.encoded(index))

    def header(self, index: int) -> tuple[int, int, int]:
        """Read its beginning."""
        try:
            with self.open(index) as file:
                return header(file, self.exif_orientation)
        except OSError as error:
            raise _lost(error) from error

    def decoded(self, index: int, channels: int, most: int = 1) -> tuple[Decoded, bytes]:
        """Read and decode."""
        data = self._bytes(index)
        found = decoded(data, channels, self.exif_orientation, most)
        return found, data + _TURNED if found.turned else data

    def _bytes(self, index: int) -> bytes:
        try:
            return self.encoded(index)
        except OSError as error:
            raise _lost(error) from error

    def load(self, index: int) -> tuple[Image.Image, bytes]:
        """Read and decode."""
        data = self._bytes(index)
        image = decode(data)
        if self.exif_orientation and (turned := upright(image)) is not image:
            return turned, data + _TURNED
        return image, data


def _lost(error: OSError) -> UnreadableError:
    return UnreadableError(f"{error.strerror or error}", passing=True)


class Some(Store):
    """Some images of another store.

    Args:
        store: it has a stamp.
        picks: int64 ``(N,)``: which of them.
    """

    def __init__(self, store: Store, picks: NDArray[np.int64]) -> None:
        self.store, self.picks, self.labels = store, picks, store.labels[picks]
        self.stamp = key(type(store).__name__, store.stamp, picks.tobytes())
        self.exif_orientation = store.exif_orientation

    def load(self, index: int) -> tuple[Image.Image, bytes]:
        """As the other does."""
        return self.store.load(int(self.picks[index]))

    def decoded(self, index: int, channels: int, most: int = 1) -> tuple[Decoded, bytes]:
        """As the other does."""
        return self.store.decoded(int(self.picks[index]), channels, most)

    def name(self, index: int) -> str:
        """As the other does."""
        return self.store.name(int(self.picks[index]))

    def here(self) -> None:
        """As the other does."""
        self.store.here()


class Drawn(Store):
    """Images that are in memory already."""

    def __init__(self, images: Pixels, labels: NDArray[np.int64]) -> None:
        self.images, self.labels = images, labels

    def load(self, index: int) -> tuple[Image.Image, bytes]:
        """Wrap."""
        image = self.images[index]
        return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image), image.tobytes()

    def name(self, index: int) -> str:
        """Its number."""
        return f"image {index}"


def _cure(checked: bool) -> str:
    return "the data changed while it was in use" if checked else UNCHECKED


class LostError(DataError):
    """An image that training needs and that cannot be read.

    Attributes:
        name: where it is, for people.
        reason: why it cannot.
        cure: what to do about it.
    """

    def __init__(self, name: str, reason: str, checked: bool) -> None:
        super().__init__(name, reason, checked)  # by which it is pickled
        self.name, self.reason, self.cure = name, reason, _cure(checked)
        self._can = "can no longer" if checked else "cannot"

    def __str__(self) -> str:
        return f"{self.name} {self._can} be read: {self.reason}; {self.cure}"


class Streamed:
    """Some images of a store, decoded when they are asked for: a ``jobs.data.sets.Stored``.

    Args:
        store: the images.
        index: int64 ``(N,)``: which of them.
        channels: 1 or 3.
        shapes: int32 ``(N, 2)``: their heights and widths; needed where parts of them are cut out.
        checked: whether they were decoded when the data was opened.
    """

    def __init__(
        self,
        store: Store,
        index: NDArray[np.int64],
        channels: int,
        shapes: NDArray[np.int32] | None = None,
        checked: bool = True,
    ) -> None:
        self.store, self.index, self.channels, self.checked = store, index, channels, checked
        self.shapes = np.zeros((len(index), 2), np.int32) if shapes is None else shapes
        self.labels: NDArray[np.int64] = store.labels[index]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.index)

    def here(self) -> None:
        """Make sure that this machine has the images."""
        self.store.here()

    def coming(self, index: NDArray[np.int64]) -> Sequence[Hashable]:
        """See :class:`Store`."""
        return self.store.coming(self.index[index])

    def expect(self, coming: Sequence[Any], done: Sequence[Any]) -> None:
        """See :class:`Store`."""
        self.store.expect(coming, done)

    def read(self, index: int, most: int = 1) -> Pixels:
        """Image ``index`` as uint8 ``(h, w, channels)``, in its own size or at least 1/``most`` of it.

        Raises:
            LostError: it is not readable, though it was when the data was opened, unless nobody looked.
        """
        where: Any = int(self.index[index])
        try:
            return self.store.decoded(where, self.channels, most)[0].pixels
        except UnreadableError as error:
            raise LostError(printable(self.store.name(where)), str(error), self.checked) from error

    def cut(self, index: int, box: Sequence[int], size: int) -> Pixels:
        """A box of image ``index`` (top, left, height, width), to be resized to ``size``; perhaps smaller than it is.

        A JPEG is decoded at a half, a quarter or an eighth where the box then has :data:`GAP` times ``size`` pixels or
        more in height and width; its edges are rounded to such pixels.

        Raises:
            DataError: see :meth:`read`; or it has another size than when the data was opened.
        """
        top, left, tall, wide = box
        most = max(1, min(tall, wide) // (GAP * size))
        image = self.read(index, most)
        (height, width), found = self.shapes[index].tolist(), image.shape
        down, across = height / found[0], width / found[1]
        if (most == 1 and found[:2] != (height, width)) or not 0.9 < down / across < 1.1:
            name = printable(self.store.name(int(self.index[index])))
            raise DataError(f"{name} was {height}x{width} and is {found[0]}x{found[1]} now; {_cure(self.checked)}")
        if down > 1:
            top, tall = round(top / down), round(tall / down)
            left, wide = round(left / across), round(wide / across)
        return image[top : top + tall, left : left + wide]

    def fitted(self, index: int, size: int, crop_ratio: float) -> Pixels:
        """The central square of image ``index``, ``(size, size, channels)``; see ``jobs.data.decode.fit``.

        Raises:
            DataError: see :meth:`read`.
        """
        return fit(self.read(index), size, crop_ratio)

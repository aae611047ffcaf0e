"""Images where they lie: what every kind of source gives, before it is decided what is decoded when."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.data import jpeg
from jobs.data.cache import key
from jobs.data.decode import (
    Decoded,
    Pixels,
    UnreadableError,
    decode,
    decoded,
    header,
    native_channels,
    pixels,
    upright,
)
from jobs.data.findings import Scan

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
        whole = pixels(image, channels)
        return Decoded(whole, native_channels(image), False, (image.height, image.width)), identity

    def twice(self, index: int, channels: int, most: int) -> tuple[Decoded, Decoded, bytes]:
        """Image ``index`` whole, and as :meth:`decoded` gives it with ``most``; it is read once, and decoded once where
        these are the same.

        Raises:
            UnreadableError: there is no such image to be had.
        """
        found, identity = self.decoded(index, channels)
        return found, found, identity

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

    def twice(self, index: int, channels: int, most: int) -> tuple[Decoded, Decoded, bytes]:
        """Decode it twice where it is a JPEG that may be made smaller."""
        if most == 1:
            return super().twice(index, channels, most)
        data = self._bytes(index)
        found = small = decoded(data, channels, self.exif_orientation)
        if jpeg.begins(data):
            small = decoded(data, channels, self.exif_orientation, most)
        return found, small, data + _TURNED if found.turned else data

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
        store: the other.
        picks: int64 ``(N,)``: which of them.
    """

    def __init__(self, store: Store, picks: NDArray[np.int64]) -> None:
        self.store, self.picks, self.labels = store, picks, store.labels[picks]
        self.stamp = store.stamp and key(type(store).__name__, store.stamp, picks.tobytes())
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

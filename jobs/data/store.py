"""Images where they lie: what every kind of source gives, before it is decided what is decoded when."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.data.decode import DataError, Pixels, UnreadableError, decode, pixels, upright


class Store(ABC):
    """Labelled images of one split that can be read in any order, from many threads and after pickling.

    Attributes:
        labels: int64 ``(N,)``.
        stamp: changes whenever the images may have changed (paths, sizes, times of change), so that what was found out
            about them can be kept; None where nothing is kept.
        exif_orientation: whether images are turned as their EXIF says.
        note: how much is fetched from where, for people; empty where the images lie on this machine.
    """

    labels: NDArray[np.int64]
    stamp: str | None = None
    exif_orientation: bool = True
    note: str = ""

    @abstractmethod
    def load(self, index: int) -> tuple[Image.Image, bytes]:
        """Image ``index``, decoded, and the bytes that tell it from any other.

        Raises:
            UnreadableError: there is no such image to be had.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """Where image ``index`` lies, for people."""

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

    def load(self, index: int) -> tuple[Image.Image, bytes]:
        """Read and decode."""
        try:
            data = self.encoded(index)
        except OSError as error:
            raise UnreadableError(f"{error.strerror or error}", passing=True) from error
        image = decode(data)
        if self.exif_orientation and (turned := upright(image)) is not image:
            return turned, data + b"upright"  # other pixels than the same bytes give unturned
        return image, data


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


class Streamed:
    """Some images of a store, decoded when they are asked for: a ``jobs.data.sets.Stored``."""

    def __init__(self, store: Store, index: NDArray[np.int64], channels: int) -> None:
        self.store, self.index, self.channels = store, index, channels
        self.labels: NDArray[np.int64] = store.labels[index]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.index)

    def here(self) -> None:
        """Make sure that this machine has the images."""
        self.store.here()

    def read(self, index: int) -> Pixels:
        """Image ``index`` as uint8 ``(h, w, channels)``, in its own size.

        Raises:
            DataError: it was readable when the data was opened, but no longer is.
        """
        where: Any = int(self.index[index])
        try:
            return pixels(self.store.load(where)[0], self.channels)
        except UnreadableError as error:
            raise DataError(
                f"{self.store.name(where)} can no longer be read: {error}; the data changed while it was in use"
            ) from error

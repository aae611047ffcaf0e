"""Images of a store that are decoded when they are asked for, in training."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.data.decode import DataError, Pixels, UnreadableError, fit
from jobs.data.store import Store
from jobs.names import printable

GAP = 2
"""What libjpeg-turbo leaves of an image that it makes smaller is at least so many times what is wanted in the end."""
UNCHECKED = (
    "data.check: sizes looked at names and headers alone; set it to full, which finds and names all such images before "
    "training and can skip some (data.max_corrupt)"
)
"""What to do about an image that turned out to be unreadable."""
CHANGED = "the data changed while it was in use"


def smaller(box: Sequence[int], size: int) -> int:
    """How many times smaller an image may be decoded of which a box is resized to ``size``; 1 is not at all."""
    return max(1, min(box[2:]) // (GAP * size))


def boxed(image: Pixels, box: Sequence[int], shape: tuple[int, int]) -> Pixels:
    """A box (top, left, height, width) of an image of that height and width, which was perhaps decoded smaller."""
    down, across = shape[0] / image.shape[0], shape[1] / image.shape[1]
    top, left, tall, wide = box
    if down > 1:
        top, tall = round(top / down), round(tall / down)
        left, wide = round(left / across), round(wide / across)
    return image[top : top + tall, left : left + wide]


def _cure(checked: bool) -> str:
    return CHANGED if checked else UNCHECKED


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
        most = smaller(box, size)
        image = self.read(index, most)
        (height, width), found = self.shapes[index].tolist(), image.shape
        if (most == 1 and found[:2] != (height, width)) or not 0.9 < height / found[0] * found[1] / width < 1.1:
            name = printable(self.store.name(int(self.index[index])))
            raise DataError(f"{name} was {height}x{width} and is {found[0]}x{found[1]} now; {_cure(self.checked)}")
        return boxed(image, box, (height, width))

    def fitted(self, index: int, size: int, crop_ratio: float) -> Pixels:
        """The central square of image ``index``, ``(size, size, channels)``; see ``jobs.data.decode.fit``.

        Raises:
            DataError: see :meth:`read`.
        """
        return fit(self.read(index), size, crop_ratio)

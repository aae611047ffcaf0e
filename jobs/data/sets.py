"""What a data source opens: three splits of labelled images, in memory or streamed, and what is known about them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Stored(Protocol):
    """Images that stay where they are and are decoded one at a time, in loader processes; picklable.

    Attributes:
        labels: int64 ``(N,)``.
        shapes: int32 ``(N, 2)``: heights and widths, zeros where nothing is cut out of the images.
    """

    labels: NDArray[np.int64]
    shapes: NDArray[np.int32]

    def __len__(self) -> int:
        """Number of images."""
        ...

    def here(self) -> None:
        """Make sure that this machine has the images, which may lie elsewhere or have been found by another one."""
        ...

    def read(self, index: int) -> NDArray[np.uint8]:
        """Image ``index`` decoded to uint8 ``(h, w, channels)``, in its own size."""
        ...

    def cut(self, index: int, box: Sequence[int], size: int) -> NDArray[np.uint8]:
        """A box of image ``index`` (top, left, height, width), perhaps made smaller, but not nearly to ``size``."""
        ...

    def coming(self, index: NDArray[np.int64]) -> Sequence[Hashable]:
        """What has to be fetched for some images, for :meth:`expect`; nothing where they are here anyway."""
        ...

    def expect(self, coming: Sequence[Any], done: Sequence[Any]) -> None:
        """Fetch what is coming in the background, and give up what is done for now."""
        ...

    def fitted(self, index: int, size: int, crop_ratio: float) -> NDArray[np.uint8]:
        """The central square of image ``index``, ``(size, size, channels)``; see ``jobs.data.decode.fit``."""
        ...


@dataclass(frozen=True)
class Arrays:
    """Images in memory.

    Attributes:
        images: uint8 ``(N, size, size, channels)``, possibly a read-only view of shared memory: index, never write.
        labels: int64 ``(N,)``.
        original: the same images as they are stored, where some are of another size; of the training split only.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    original: Stored | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


Split = Arrays | Stored


@dataclass(frozen=True)
class Data:
    """An opened data source.

    Attributes:
        classes: class names; a label is an index into them.
        channels: 1 or 3.
        size: height and width in pixels that the model is fed in training.
        test_size: the same for the validation and test splits.
        crop_ratio: share of the shorter side that the central square of those splits takes.
        mean, std: per channel, of pixels scaled to 0 .. 1; measured on the training split unless the spec gives them.
        digest: hex digest of the images, labels and class names, and of how they are split.
        check: what was looked at: ``full``, or ``sizes``, where ``digest`` is ``listed``.
        listed: the same digest of the images' names and lengths instead of their content, and of ``mean`` and ``std``;
            empty where these are not known.
        train, val, test: ``val`` is held out of train and may steer; ``test`` is scored once, at the end.
        class_weights: how much each class counts in the loss, 1 on average over the training images; None counts all
            alike.
        blocks: int64 ``(shards,)``: training images of each shard, in their order, where an epoch goes shard by shard;
            else None.
        lanes: shards that it reads side by side.
        exif_orientation: whether images were turned as their EXIF says.
        balanced_sampling: whether an epoch draws every class equally often, with replacement.
        notes: what a person should know of how the source was read (which folder serves as what, what was skipped).
    """

    classes: tuple[str, ...]
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    train: Split
    val: Split
    test: Split
    test_size: int
    crop_ratio: float = 1.0
    check: str = "full"
    listed: str = ""
    class_weights: tuple[float, ...] | None = None
    balanced_sampling: bool = False
    exif_orientation: bool = True
    blocks: NDArray[np.int64] | None = None
    lanes: int = 1
    notes: Sequence[str] = field(default=())

    def training(self, resizes: bool) -> Split:
        """The images that training reads.

        Args:
            resizes: whether an augmentation cuts them from the originals (``jobs.augment``).
        """
        if resizes and isinstance(self.train, Arrays) and self.train.original is not None:
            return self.train.original
        return self.train

    def needed(self, resizes: bool) -> Data:
        """The same for a job that always reads what it is trained on, and the fitted images not at all where it cuts.

        Args:
            resizes: see :meth:`training`.
        """
        return replace(self, train=self.training(resizes))

    def here(self, resizes: bool) -> None:
        """Make sure that this machine has what is streamed; of several workers one fetches it, the others wait.

        Args:
            resizes: see :meth:`training`.

        Raises:
            ValueError: it cannot be had.
        """
        for split in (self.training(resizes), self.val, self.test):
            if not isinstance(split, Arrays):
                split.here()

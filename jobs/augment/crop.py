"""Random crop of the zero-padded image, the CIFAR augmentation of He et al. (arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jobs.augment.trick import Augmentation

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws


def crop(images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, padding: int) -> torch.Tensor:
    """Cut each image's window out of its padded self, in one gather over the whole batch.

    Args:
        images: uint8 ``(N, H, W, C)``.
        top: int64 ``(N,)`` in 0 .. 2 ``padding``: upper edge of the window in the padded image.
        left: the same for its left edge.
        padding: zeros added on every side, in pixels.
    """
    import torch

    count, height, width, channels = images.shape
    padded = torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))
    down, across = padded.shape[1:3]
    # every window of the pixels of all padded images one after the other, by the number of its first pixel
    starts = count * down * across - (height - 1) * across - (width - 1)
    windows = padded.as_strided((starts, height, width * channels), (channels, across * channels, 1))
    first = (torch.arange(count, device=images.device) * down + top) * across + left
    return windows.index_select(0, first).view_as(images)


class Crop(Augmentation):
    """Pad with zeros, then cut a window of the image's own size at a random place."""

    kind: Literal["crop"] = "crop"
    padding: int = Field(4, gt=0, le=1024)
    """Pixels added on every side."""

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Crop each image by its own draws."""
        top, left = draws.integers("crop", 2 * self.padding + 1, 2).unbind(1)
        return crop(images, top, left, self.padding)

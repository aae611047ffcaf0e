"""Random crop of the zero-padded image, the CIFAR augmentation of He et al. (arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

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
    samples = torch.arange(count, device=images.device)[:, None]
    rows = samples * padded.shape[1] + top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    pixels = rows[:, :, None] * padded.shape[2] + columns[:, None, :]
    return padded.view(-1, channels).index_select(0, pixels.flatten()).view_as(images)


class Crop(Augmentation):
    """Pad with zeros, then cut a window of the image's own size at a random place."""

    kind: Literal["crop"] = "crop"
    padding: PositiveInt = 4
    """Pixels added on every side."""

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Crop each image by its own draws."""
        top, left = draws.integers("crop", 2 * self.padding + 1, 2).unbind(1)
        return crop(images, top, left, self.padding)

"""Cutout (DeVries and Taylor, arXiv 1708.04552, section 3): a square hole in every image.

The hole's centre is uniform over the pixels, so the border clips it (at size 16 of 32 pixels it covers 19.1 % on the
average, not 25 %). It is filled with 0, the channel's mean, since images are normalised before. The hole begins
``floor(size / 2)`` pixels before the centre and ends before ``ceil(size / 2)`` after it. For even sizes that is the
authors' code; for odd ones theirs rounds down twice and cuts ``size - 1`` pixels, none at size 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jobs.batch.holes import inside
from jobs.batch.trick import At, PerSample

if TYPE_CHECKING:
    import torch


def cutout(x: torch.Tensor, row: torch.Tensor, column: torch.Tensor, size: int) -> torch.Tensor:
    """Images ``(N, C, H, W)`` with 0 in a square around each one's centre, int64 ``(N,)`` rows and columns."""
    before, after = size // 2, (size + 1) // 2
    return x.clone().masked_fill_(inside(row - before, row + after, column - before, column + after, *x.shape[2:]), 0.0)


class Cutout(PerSample):
    """Cut a square hole out of every image."""

    kind: Literal["cutout"] = "cutout"
    size: int = Field(16, ge=1, le=100_000)
    """Side of the hole in pixels; the paper's choices at 32 pixels: 16 for CIFAR-10, 8 for CIFAR-100, 20 for SVHN."""

    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, at: At
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut ``x``; ``y`` passes through."""
        import torch

        uniform = self.draws(len(x), generator, at).uniform("cutout", 2)
        centres = (uniform * torch.tensor(x.shape[2:])).to(torch.int64).T
        row, column = centres.to(x.device, non_blocking=True)
        return cutout(x, row, column, self.size), y

"""CutMix (Yun et al., arXiv 1905.04899, section 3.1): a box of every image is replaced by that of a partner, and the
target by ``lam y_i + (1 - lam) y_j``, where 1 - lam is the box's share of the image.

lam ~ Beta(alpha, alpha) gives the sides, ``sqrt(1 - lam)`` of the image's; the centre is uniform over the pixels, so
the border clips the box, and the targets' lam is that of what is left of it, as in the authors' code and torchvision.
One box and one permutation a batch. The permutation is drawn first, and lam by the inverse CDF of one uniform, so
another alpha cuts around the same centre and mixes the same pairs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from jobs.batch.mixup import mixup
from jobs.batch.trick import At, Mixing

if TYPE_CHECKING:
    import torch


class Box(NamedTuple):
    """Rows ``top`` to ``bottom - 1`` and columns ``left`` to ``right - 1``."""

    top: int
    bottom: int
    left: int
    right: int


def box(lam: float, row: int, column: int, height: int, width: int) -> Box:
    """The box of share ``1 - lam`` around (``row``, ``column``), clipped by the image's border.

    Its half sides are rounded down, so a side is even before it is clipped.
    """
    half = math.sqrt(1.0 - lam) / 2
    down, across = int(height * half), int(width * half)
    return Box(max(row - down, 0), min(row + down, height), max(column - across, 0), min(column + across, width))


def cutmix(x: torch.Tensor, perm: torch.Tensor, box: Box) -> torch.Tensor:
    """``x`` ``(N, C, H, W)`` with the pixels of ``x[perm]`` inside the box; ``perm`` is int64 ``(N,)``."""
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    mixed = x.clone()
    mixed[:, :, rows, columns] = x[:, :, rows, columns][perm]
    return mixed


class CutMix(Mixing):
    """Replace a box of every image by that of a random partner of its part of the batch."""

    kind: Literal["cutmix"] = "cutmix"
    alpha: float = Field(1.0, ge=1e-4, le=1e4)
    """Shape of the symmetric Beta distribution that lambda is drawn from; small ones hardly mix."""

    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, at: At
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut ``x`` and mix ``y``."""
        import torch
        from scipy.special import betaincinv

        if self.off(at):
            return x, y
        height, width = x.shape[2:]
        perm = torch.randperm(len(x), generator=generator).to(x.device, non_blocking=True)
        uniform, row, column = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        lam = float(betaincinv(self.alpha, self.alpha, uniform))
        cut = box(lam, int(row * height), int(column * width), height, width)
        kept = 1.0 - (cut.bottom - cut.top) * (cut.right - cut.left) / (height * width)
        return cutmix(x, perm, cut), mixup(y, kept, perm)

"""RICAP, random image cropping and patching (Takahashi, Matsubara, Uehara, arXiv 1811.09030, section 3): four random
crops are patched to one image, and their targets weighed by the areas.

``w = round(W Beta(beta, beta))`` and ``h`` likewise divide the image into four quadrants, some of them often empty. As
in the authors' code, (w, h) and the corner of each crop are drawn once a batch, and each quadrant has a permutation of
its own. The permutations are drawn first, and w and h by the inverse CDF of one uniform each, so another beta patches
the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jobs.batch.trick import At, Mixing

if TYPE_CHECKING:
    import torch


def sizes(height: int, width: int, h: int, w: int) -> list[tuple[int, int]]:
    """Rows and columns of the quadrants that meet at (``h``, ``w``), in reading order."""
    return [(h, w), (h, width - w), (height - h, w), (height - h, width - w)]


def patch(
    x: torch.Tensor, perms: Sequence[torch.Tensor], h: int, w: int, corners: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """Images ``(N, C, H, W)`` whose quadrant k is the crop at ``corners[k]`` (row, column) of ``x[perms[k]]``, int64
    ``(N,)``; the quadrants meet at row ``h`` and column ``w``."""
    import torch

    patched = torch.empty_like(x)
    shapes = sizes(x.shape[2], x.shape[3], h, w)
    places = [(0, 0), (0, w), (h, 0), (h, w)]
    for perm, (rows, columns), (top, left), (row, column) in zip(perms, shapes, places, corners, strict=True):
        crop = x[:, :, row : row + rows, column : column + columns]
        patched[:, :, top : top + rows, left : left + columns] = crop[perm]
    return patched


def weigh(y: torch.Tensor, perms: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """``sum_k weights[k] y[perms[k]]`` for targets ``(N, K)``."""
    import torch

    return torch.stack([y[perm] * weight for perm, weight in zip(perms, weights, strict=True)]).sum(0)


class RICAP(Mixing):
    """Patch crops of four images of the batch's part together."""

    kind: Literal["ricap"] = "ricap"
    beta: float = Field(0.3, ge=1e-4, le=1e4)
    """Shape of the symmetric Beta distribution of the point where the crops meet; a small one lets one crop prevail."""

    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, at: At
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Patch ``x`` and weigh ``y``."""
        import torch
        from scipy.special import betaincinv

        if self.off(at):
            return x, y
        count, (height, width) = len(x), x.shape[2:]
        perms = torch.stack([torch.randperm(count, generator=generator) for _ in range(4)])
        across, down, *rest = torch.rand(10, generator=generator, dtype=torch.float64).tolist()
        w = round(width * float(betaincinv(self.beta, self.beta, across)))
        h = round(height * float(betaincinv(self.beta, self.beta, down)))
        shapes = sizes(height, width, h, w)
        corners = [
            (int(row * (height - rows + 1)), int(column * (width - columns + 1)))
            for (rows, columns), row, column in zip(shapes, rest[:4], rest[4:], strict=True)
        ]
        each = perms.to(x.device, non_blocking=True).unbind()
        weights = [rows * columns / (height * width) for rows, columns in shapes]
        return patch(x, each, h, w, corners), weigh(y, each, weights)

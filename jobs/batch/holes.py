"""Rectangular holes in the images of a batch, one an image: for Cutout and Random Erasing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def inside(
    top: torch.Tensor, bottom: torch.Tensor, left: torch.Tensor, right: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """Which pixels lie in rows ``top`` to ``bottom - 1`` and columns ``left`` to ``right - 1``: bool ``(N, 1, H, W)``.

    The edges are int64 ``(N,)`` and may lie outside the image.
    """
    import torch

    row, column = torch.arange(height, device=top.device), torch.arange(width, device=top.device)
    rows = (row >= top[:, None]) & (row < bottom[:, None])
    columns = (column >= left[:, None]) & (column < right[:, None])
    return rows[:, None, :, None] & columns[:, None, None, :]


def rectangles(
    share: torch.Tensor, aspect: torch.Tensor, row: torch.Tensor, column: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """Edges of each image's first candidate that is smaller than the image both ways; of no pixel if none is.

    Args:
        share: of the image's area, float64 ``(tries, N)``.
        aspect: height / width, likewise.
        row: where the top is among the places that it can have, ``(N,)`` in [0, 1).
        column: the same for the left edge.
        height: rows of the images.
        width: their columns.

    Returns:
        top, bottom, left and right as int64 ``(4, N)``; see :func:`inside`.
    """
    import torch

    rows = (share * (height * width) * aspect).sqrt().round()
    columns = (share * (height * width) / aspect).sqrt().round()
    fits = (rows < height) & (columns < width)
    first, found = fits.byte().argmax(0, keepdim=True), fits.any(0)
    rows, columns = rows.gather(0, first)[0] * found, columns.gather(0, first)[0] * found
    top, left = (row * (height - rows + 1)).floor(), (column * (width - columns + 1)).floor()
    return torch.stack((top, top + rows, left, left + columns)).long()

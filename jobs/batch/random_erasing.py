"""Random Erasing (Zhong et al., arXiv 1708.04896, algorithm 1): some images lose a rectangle that lies wholly inside.

A random share s of the area and a random aspect r = height / width give ``sqrt(s H W r)`` rows and ``sqrt(s H W / r)``
columns, rounded, which must be fewer than the image's. The authors' code tries 100 times, torchvision 10; so do we, all
at once, since in the paper's ranges ten fail together with a probability below 1e-12. The paper's aspect is uniform, so
more rectangles are tall than wide; torchvision and timm draw its logarithm (``aspect: log_uniform``). ``fill: mean`` is
0, since images are normalised before; ``noise`` is N(0, 1), as timm's ``pixel``, drawn on the device by a generator
that the trick's own seeds, so another kind of device has other noise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Len
from pydantic import AfterValidator, Field

from jobs.batch.holes import inside, rectangles
from jobs.batch.trick import At, BatchTrick

if TYPE_CHECKING:
    import torch

TRIES = 10
"""Candidates an image."""


def random_erasing(x: torch.Tensor, edges: torch.Tensor, fill: torch.Tensor | None = None) -> torch.Tensor:
    """Images ``(N, C, H, W)`` with 0, or what ``fill`` has there, between the ``edges`` of ``jobs.batch.holes``."""
    import torch

    top, bottom, left, right = edges
    mask = inside(top, bottom, left, right, x.shape[2], x.shape[3])
    return x.clone().masked_fill_(mask, 0.0) if fill is None else torch.where(mask, fill, x, out=torch.empty_like(x))


def _between(low: float, high: float, uniforms: torch.Tensor) -> torch.Tensor:
    return low + uniforms * (high - low)


def _ascending(ends: tuple[float, ...]) -> tuple[float, ...]:
    if ends[0] > ends[1]:
        raise ValueError(f"the smaller end stands first: write [{ends[1]:g}, {ends[0]:g}]")
    return ends


Share = Annotated[float, Field(ge=0, le=1)]
Aspect = Annotated[float, Field(ge=1e-3, le=1e3)]


class RandomErasing(BatchTrick):
    """Erase a rectangle of some images."""

    kind: Literal["random_erasing"] = "random_erasing"
    probability: float = Field(0.5, ge=0, le=1)
    """Share of images that are erased."""
    scale: Annotated[tuple[Share, ...], Len(2, 2), AfterValidator(_ascending)] = (0.02, 0.4)
    """Smallest and largest share of the image's area."""
    ratio: Annotated[tuple[Aspect, ...], Len(2, 2), AfterValidator(_ascending)] = (0.3, 1 / 0.3)
    """Smallest and largest height / width."""
    aspect: Literal["uniform", "log_uniform"] = "uniform"
    """Whether height / width is uniform in ``ratio`` (the paper) or its logarithm is (torchvision, timm)."""
    fill: Literal["mean", "noise"] = "mean"
    """What fills the rectangle: the channel's mean, or standard normal noise."""

    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, at: At
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Erase in ``x``; ``y`` passes through."""
        import torch

        edges = self.draw(len(x), x.shape[2], x.shape[3], generator).to(x.device, non_blocking=True)
        if self.fill == "mean":
            return random_erasing(x, edges), y
        source = torch.Generator(x.device).manual_seed(int(torch.randint(2**63 - 1, (), generator=generator)))
        return random_erasing(x, edges, torch.randn(x.shape, generator=source, dtype=x.dtype, device=x.device)), y

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
        """The edges ``(4, count)``, on the CPU; of no pixel for images that are left alone."""
        import torch

        chosen, row, column = torch.rand(3, count, generator=generator, dtype=torch.float64)
        share, aspect = torch.rand(2, TRIES, count, generator=generator, dtype=torch.float64)
        (least, most), (low, high) = self.scale, self.ratio
        share = _between(least, most, share)
        if self.aspect == "uniform":
            aspect = _between(low, high, aspect)
        else:
            aspect = _between(math.log(low), math.log(high), aspect).exp()
        return torch.where(chosen < self.probability, rectangles(share, aspect, row, column, height, width), 0)

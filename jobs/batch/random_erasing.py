"""Random Erasing (Zhong et al., arXiv 1708.04896, algorithm 1): some images lose a rectangle, wholly inside the image.

A random share s of the area and a random aspect r = height / width give ``sqrt(s H W r)`` rows and ``sqrt(s H W / r)``
columns, rounded, which must be fewer than the image's. The authors' code tries 100 times, torchvision 10; so do we, all
at once, since in the paper's ranges ten fail together with a probability below 1e-12. The paper's aspect is uniform, so
more rectangles are tall than wide; torchvision and timm draw its logarithm (``aspect: log_uniform``). ``fill: mean`` is
0, since images are normalised before; ``noise`` is N(0, 1), as timm's ``pixel``: for each erased value two draws by a
counter, so that an image's noise does not depend on its neighbours (Box and Muller 1958).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Len
from pydantic import AfterValidator, Field

from jobs.batch.holes import inside, rectangles
from jobs.batch.trick import At, PerSample

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws

TRIES = 10
"""Candidates an image."""


def random_erasing(x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Images ``(N, C, H, W)`` with 0 between the ``edges`` of ``jobs.batch.holes``."""
    return x.clone().masked_fill_(inside(*edges, *x.shape[2:]), 0.0)


def noise(x: torch.Tensor, edges: torch.Tensor, draws: SampleDraws) -> torch.Tensor:
    """Images ``(N, C, H, W)`` with standard normal noise between the ``edges``, which are on the CPU."""
    import torch

    top, bottom, left, right = edges
    areas = (bottom - top) * (right - left)
    erased, total = areas.nonzero()[:, 0], int(areas.sum())
    columns = torch.stack(
        (erased, (areas.cumsum(0) - areas)[erased], top[erased], left[erased], (right - left)[erased])
    )
    counts = areas[erased].to(x.device, non_blocking=True)
    spread = columns.to(x.device, non_blocking=True).repeat_interleave(counts, 1, output_size=total)
    image, first, top, left, width = spread
    pixel = torch.arange(total, device=x.device) - first
    index = draws.index.to(x.device, non_blocking=True)[image] * (x.shape[2] * x.shape[3]) + pixel
    uniform = draws.at(index).uniform("noise", 2 * x.shape[1]).view(total, 2, x.shape[1])
    values = (-2 * (1 - uniform[:, 0]).log()).sqrt() * (2 * math.pi * uniform[:, 1]).cos()
    noisy = x.clone()
    noisy[image, :, top + pixel.div(width, rounding_mode="floor"), left + pixel % width] = values.to(x.dtype)
    return noisy


def _between(low: float, high: float, uniforms: torch.Tensor) -> torch.Tensor:
    return low + uniforms * (high - low)


def _ascending(ends: tuple[float, ...]) -> tuple[float, ...]:
    if ends[0] > ends[1]:
        raise ValueError(f"the smaller end stands first: write [{ends[1]:g}, {ends[0]:g}]")
    return ends


Share = Annotated[float, Field(ge=0, le=1)]
Aspect = Annotated[float, Field(ge=1e-3, le=1e3)]


class RandomErasing(PerSample):
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
        draws = self.draws(len(x), generator, at)
        edges = self.edges(x.shape[2], x.shape[3], draws)
        if self.fill == "noise":
            return noise(x, edges, draws), y
        return random_erasing(x, edges.to(x.device, non_blocking=True)), y

    def edges(self, height: int, width: int, draws: SampleDraws) -> torch.Tensor:
        """The edges ``(4, N)`` for ``N`` draws, on the CPU; of no pixel for images that are left alone.

        Lanes of draws: whether to erase, row, column, then the shares and the aspects of all tries.
        """
        import torch

        chosen, row, column, *tries = draws.uniform("random_erasing", 3 + 2 * TRIES).T
        share, aspect = torch.stack(tries[:TRIES]), torch.stack(tries[TRIES:])
        (least, most), (low, high) = self.scale, self.ratio
        share = _between(least, most, share)
        if self.aspect == "uniform":
            aspect = _between(low, high, aspect)
        else:
            aspect = _between(math.log(low), math.log(high), aspect).exp()
        return torch.where(chosen < self.probability, rectangles(share, aspect, row, column, height, width), 0)

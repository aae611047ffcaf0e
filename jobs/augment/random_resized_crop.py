"""Random resized crop (Szegedy et al., arXiv 1409.4842, section 6), with torchvision's draws of the box.

A box of a share U[scale] of the image's area and of an aspect ratio exp(U[log ratio]) at a random place, resized to the
model's size (``jobs.augment.resample``). Ten boxes are drawn and the first one inside is taken; if none does, the
largest central one of a legal ratio.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from jobs.augment.trick import Augmentation

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws

TRIES = 10


def boxes(
    uniform: torch.Tensor, room: torch.Tensor, scale: tuple[float, float], ratio: tuple[float, float]
) -> torch.Tensor:
    """Int64 ``(N, 4)`` boxes (top, left, height, width) in images, of float64 ``(N, 22)`` draws on the CPU.

    Lanes of draws: areas, aspect ratios of the ten tries; then top and left of the one that is taken.

    Args:
        uniform: the draws.
        room: height and width of each image, int64 ``(N, 2)`` or ``(1, 2)`` on the CPU.
        scale, ratio: bounds, as in the spec.
    """
    import torch

    room = room.to(torch.float64)
    height, width = room[:, :1], room[:, 1:]
    area = height * width * (scale[0] + uniform[:, :TRIES] * (scale[1] - scale[0]))
    low, high = map(math.log, ratio)
    aspect = (low + uniform[:, TRIES : 2 * TRIES] * (high - low)).exp()
    sides = torch.stack(((area / aspect).sqrt().round(), (area * aspect).sqrt().round()), 2)  # (N, tries, 2)
    fits = ((sides >= 1) & (sides <= room[:, None])).all(2)
    nearest = (width / height).clamp(*ratio)
    whole = torch.cat(((width / nearest).round(), (height * nearest).round()), 1).minimum(room).clamp(min=1)
    inside = fits.any(1, keepdim=True)
    taken = sides[torch.arange(len(sides)), fits.int().argmax(1)]
    side = torch.where(inside, taken, whole)
    corner = torch.where(inside, (uniform[:, 2 * TRIES :] * (room - side + 1)).floor(), ((room - side) / 2).floor())
    return torch.cat((corner, side), 1).to(torch.int64)


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the smaller bound comes first, got {list(bounds)}")
    return bounds


class RandomResizedCrop(Augmentation):
    """Cut out a random part of each image and resize it to what the model is fed."""

    resizes: ClassVar[bool] = True

    kind: Literal["random_resized_crop"] = "random_resized_crop"
    scale: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], AfterValidator(_ordered)
    ] = (0.08, 1.0)
    """Smallest and largest share of the image's area."""
    ratio: Annotated[
        tuple[Annotated[float, Field(gt=0, le=100)], Annotated[float, Field(gt=0, le=100)]], AfterValidator(_ordered)
    ] = (3 / 4, 4 / 3)
    """Smallest and largest width over height."""

    def boxes(self, draws: SampleDraws, room: torch.Tensor) -> torch.Tensor:
        """The box of each image by its own draws, int64 ``(N, 4)`` on the CPU: top, left, height, width.

        Args:
            draws: of these samples.
            room: see :func:`boxes`.
        """
        return boxes(draws.host.uniform(self.kind, 2 * TRIES + 2), room, self.scale, self.ratio)

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Crop and resize each image by its own draws."""
        import torch

        from jobs.augment.resample import resample, resized

        box = self.boxes(draws, torch.tensor([images.shape[1:3]]))
        if images.device.type != "cpu":
            return resample(images, box, size)
        cut = zip(images.numpy(), box.tolist(), strict=True)
        return torch.stack(
            [resized(each[y : y + tall, x : x + wide], (size, size), "bilinear") for each, (y, x, tall, wide) in cut]
        )

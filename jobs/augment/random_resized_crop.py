"""Random resized crop (Szegedy et al., arXiv 1409.4842, section 6), with torchvision's draws of the box.

A box of a share U[scale] of the image's area and of an aspect ratio exp(U[log ratio]) at a random place, resized to the
model's size by the antialiased bilinear (triangle) filter of Pillow: first along the lines, rounded, then across them.
Ten boxes are drawn and the first that lies inside is taken; if none does, the largest central one of a legal ratio.

Departure: the filter's weights are multiples of 2**-11 that sum to 1 exactly. So all products and sums are whole
numbers that float32 holds (and all factors ones that TF32 holds): an image comes out the same in whatever order and
place it is computed.
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
_ONE = 2**11


def boxes(
    uniform: torch.Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> torch.Tensor:
    """Int64 ``(N, 4)`` boxes (top, left, height, width) in an image, of float64 ``(N, 22)`` draws on the CPU.

    Lanes of draws: areas, aspect ratios of the ten tries; then top and left of the one that is taken.
    """
    import torch

    area = height * width * (scale[0] + uniform[:, :TRIES] * (scale[1] - scale[0]))
    low, high = map(math.log, ratio)
    aspect = (low + uniform[:, TRIES : 2 * TRIES] * (high - low)).exp()
    sides = torch.stack(((area / aspect).sqrt().round(), (area * aspect).sqrt().round()), 2)  # (N, tries, 2)
    room = torch.tensor((height, width), dtype=torch.float64)
    fits = ((sides >= 1) & (sides <= room)).all(2)
    nearest = min(max(width / height, ratio[0]), ratio[1])
    whole = torch.tensor((min(height, round(width / nearest)), min(width, round(height * nearest)))).clamp(min=1)
    inside = fits.any(1, keepdim=True)
    taken = sides[torch.arange(len(sides)), fits.int().argmax(1)]
    side = torch.where(inside, taken, whole.to(torch.float64))
    corner = torch.where(inside, (uniform[:, 2 * TRIES :] * (room - side + 1)).floor(), ((room - side) / 2).floor())
    return torch.cat((corner, side), 1).to(torch.int64)


def weights(start: torch.Tensor, length: torch.Tensor, extent: int, size: int) -> torch.Tensor:
    """The triangle filter along one axis: float32 ``(N, size, extent)``, whole numbers that sum to 2**11.

    Args:
        start: int64 ``(N,)``, where the box begins.
        length: int64 ``(N,)``, how long it is.
        extent: pixels of the image along the axis.
        size: pixels wanted.
    """
    import torch

    device = start.device
    place = torch.arange(extent, device=device) - start[:, None]  # in the box
    inside = ((place >= 0) & (place < length[:, None]))[:, None, :]
    step = (length / torch.full((), float(size), device=device))[:, None, None]  # CUDA multiplies by a number's inverse
    centre = (torch.arange(size, device=device) + 0.5)[:, None] * step
    distance = (place[:, None, :] + 0.5 - centre).abs() / step.clamp(min=1)
    triangle = (1 - distance).clamp_(min=0).mul_(2**15).round_().mul_(inside).to(torch.int64)
    sums = triangle.cumsum(2)
    share = (sums.to(torch.float64) / sums[:, :, -1:].to(torch.float64)).mul_(_ONE).round_().to(torch.float32)
    return torch.cat((share[:, :, :1], share.diff(dim=2)), 2)


def resample(images: torch.Tensor, box: torch.Tensor, size: int) -> torch.Tensor:
    """Cut each image's box (int64 ``(N, 4)``: top, left, height, width) and resize it to ``size`` x ``size``."""
    import torch

    count, height, width, channels = images.shape
    top, left, tall, wide = box.unbind(1)
    columns = images.permute(0, 2, 1, 3).to(torch.float32, memory_format=torch.contiguous_format)
    columns = _weighted(weights(left, wide, width, size), columns.view(count, width, -1))
    lines = columns.view(count, size, height, channels).transpose(1, 2).reshape(count, height, -1)
    return _weighted(weights(top, tall, height, size), lines).to(torch.uint8).view(count, size, size, channels)


def _weighted(weight: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return weight.bmm(values).add_(_ONE // 2).mul_(1 / _ONE).floor_()


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

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Crop and resize each image by its own draws."""
        height, width = images.shape[1:3]
        box = boxes(draws.host.uniform("random_resized_crop", 2 * TRIES + 2), height, width, self.scale, self.ratio)
        if len(images) == 1:  # a streamed image: nothing outside the box counts, so cut it off first
            top, left, tall, wide = box[0].tolist()
            images = images[:, top : top + tall, left : left + wide]
            box = box.new_tensor([[0, 0, tall, wide]])
        return resample(images, draws.put(box), size)

"""Cut a box out of each image and resize it, by the antialiased bilinear (triangle) filter of Pillow and torchvision.

First along the lines, rounded to grey levels, then across them, as Pillow does. The filter's weights are multiples of
2**-11 that sum to 1 exactly. So all products and sums are whole numbers that float32 holds (and all factors ones that
TF32 holds): an image comes out the same in whatever order and place it is computed.

For single images on a CPU there are torch's own filters (:func:`resized`): their weights have 16 bits, so a pixel may
differ by one grey level, rarely by two.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ONE = 2**11


def weights(start: Tensor, length: Tensor, extent: int, size: int) -> Tensor:
    """The triangle filter along one axis: float32 ``(N, size, extent)``, whole numbers that sum to 2**11.

    Args:
        start: int64 ``(N,)``, where the box begins.
        length: int64 ``(N,)``, how long it is.
        extent: pixels of the image along the axis.
        size: pixels wanted.
    """
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


def resample(images: Tensor, box: Tensor, size: int) -> Tensor:
    """Cut each image's box (int64 ``(N, 4)``: top, left, height, width) and resize it to ``size`` x ``size``."""
    count, height, width, channels = images.shape
    top, left, tall, wide = box.unbind(1)
    columns = images.permute(0, 2, 1, 3).to(torch.float32, memory_format=torch.contiguous_format)
    columns = _weighted(weights(left, wide, width, size), columns.view(count, width, -1))
    lines = columns.view(count, size, height, channels).transpose(1, 2).reshape(count, height, -1)
    return _weighted(weights(top, tall, height, size), lines).to(torch.uint8).view(count, size, size, channels)


def resized(image: NDArray[np.uint8], shape: tuple[int, int], filter: Literal["bilinear", "bicubic"]) -> Tensor:
    """An image ``(h, w, channels)`` as uint8 ``(*shape, channels)``, by an antialiased filter in integer arithmetic.

    The result is the same on all CPUs, whatever vector instructions they have.
    """
    pixels = torch.from_numpy(np.array(image, order="C"))[None].permute(0, 3, 1, 2)  # in this order: channels_last
    sized = torch.nn.functional.interpolate(pixels, shape, mode=filter, antialias=True)
    return sized.permute(0, 2, 3, 1)[0]


def _weighted(weight: Tensor, values: Tensor) -> Tensor:
    return weight.bmm(values).add_(_ONE // 2).mul_(1 / _ONE).floor_()

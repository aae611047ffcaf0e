"""Cut a box out of each image and resize it, by the antialiased bilinear (triangle) filter of Pillow and torchvision.

First along the lines, rounded to grey levels, then across them, in integer arithmetic: weights of 16 bits, as many of
them fractional as the largest weight leaves. This is what torch's own filter of uint8 images does on a CPU
(``aten/src/ATen/native/cpu/UpSampleKernel.cpp``), so :func:`resample` and :func:`resample_ragged`, for whole batches
on a GPU, give the pixels of :func:`resized`, for single images on a CPU, bit for bit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.transfer import put

_MOST_BITS = 22
"""Most fractional bits of a weight."""
_POSITIONS = 2**23
"""Most pixels that are computed at a time, which bounds the memory."""


def resized(image: NDArray[np.uint8], shape: tuple[int, int], filter: Literal["bilinear", "bicubic"]) -> Tensor:
    """An image ``(h, w, channels)`` as uint8 ``(*shape, channels)``, by an antialiased filter in integer arithmetic.

    The result is the same on all CPUs, whatever vector instructions they have.
    """
    pixels = torch.from_numpy(np.array(image, order="C"))[None].permute(0, 3, 1, 2)  # in this order: channels_last
    sized = torch.nn.functional.interpolate(pixels, shape, mode=filter, antialias=True)
    return sized.permute(0, 2, 3, 1)[0]


def resample(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut a box out of each image of a batch and resize it; see :func:`resample_ragged`.

    Args:
        images: uint8 ``(N, height, width, channels)`` on any device.
        boxes: int64 ``(N, 4)`` on the CPU: top, left, height, width.
        size: height and width wanted.
    """
    count, height, width, channels = images.shape
    begins = torch.arange(count) * (height * width)
    return resample_ragged(images.reshape(-1, channels), begins, torch.full_like(begins, width), boxes, size)


def resample_ragged(pixels: Tensor, begins: Tensor, widths: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut a box out of each of N images of any shapes and resize it, all at once; nothing waits for the device.

    Args:
        pixels: uint8 ``(M, channels)`` on any device: the pixels of all images, line by line.
        begins: int64 ``(N,)`` on the CPU: the number of each image's first pixel.
        widths: int64 ``(N,)`` on the CPU: pixels in its lines.
        boxes: int64 ``(N, 4)`` on the CPU: top, left, height, width.
        size: height and width wanted.

    Returns:
        uint8 ``(N, size, size, channels)`` on the device of the pixels.
    """
    top, left, tall, wide = boxes.unbind(1)
    device, channels, highest = pixels.device, pixels.shape[1], int(tall.max())
    first, width, height = put(torch.stack((begins + top * widths + left, widths, tall)), device)
    across, down = (_Filter(length, size, device) for length in (wide, tall))
    lines = torch.arange(highest, device=device).minimum(height[:, None] - 1)  # no line below a box is used
    starts, images = first[:, None] + lines * width[:, None], []
    for some in torch.arange(len(boxes)).split(max(1, _POSITIONS // (highest * size))):
        rows = slice(int(some[0]), int(some[-1]) + 1)
        narrow = across(pixels, starts[rows], rows).view(-1, size * channels)
        images.append(down(narrow, torch.arange(len(some), device=device)[:, None] * highest, rows))
    return torch.cat(images).view(len(boxes), size, size, channels)


class _Filter:
    """Weights along one axis of N images.

    Args:
        length: int64 ``(N,)`` on the CPU: pixels there are along the axis.
        size: pixels wanted.
        device: where the images are.
    """

    def __init__(self, length: Tensor, size: int, device: torch.device) -> None:
        taps = 2 * -(-max(size, int(length.max())) // size) + 1  # the most pixels that one of the result hangs on
        length = put(length, device)[:, None]
        scale = length / torch.full((), float(size), dtype=torch.float64, device=device)  # CUDA: not by 1 / size
        reach = scale.clamp(min=1)
        centre = (torch.arange(size, device=device) + 0.5) * scale
        first = (centre - reach + 0.5).to(torch.int64).clamp_(min=0)
        last = (centre + reach + 0.5).to(torch.int64).minimum(length)
        place = first[:, :, None] + torch.arange(taps, device=device)
        weight = (1 - ((place - centre[:, :, None] + 0.5) * (1 / reach)[:, :, None]).abs()).clamp_(min=0)
        weight = weight * (place < last[:, :, None])
        weight = weight / weight.sum(2, keepdim=True)
        powers = 2.0 ** torch.arange(1, _MOST_BITS + 1, dtype=torch.float64, device=device)
        bits = ((weight.amax((1, 2))[:, None] * powers + 0.5).floor() < 2**15).sum(1)
        self._place = place.minimum(length[:, :, None] - 1)
        self._weight = (weight * (2.0 ** bits.to(torch.float64))[:, None, None] + 0.5).to(torch.int32)
        self._shift = bits.to(torch.int32).view(-1, 1, 1, 1)

    def __call__(self, rows: Tensor, starts: Tensor, images: slice) -> Tensor:
        """Lines resized along themselves: uint8 ``(n, lines, size, K)``.

        Args:
            rows: uint8 ``(M, K)``: what lines are made of.
            starts: int64 ``(n, lines)``: the row that each line begins with.
            images: which n of the N they are of.
        """
        place, weight, shift = self._place[images], self._weight[images], self._shift[images]
        total = torch.ones_like(shift) << shift - 1
        for tap in range(place.shape[2]):
            index = starts[:, :, None] + place[:, None, :, tap]
            picked = rows.index_select(0, index.flatten()).view(*index.shape, rows.shape[1])
            total = total + weight[:, None, :, tap, None] * picked
        return (total >> shift).clamp_(0, 255).to(torch.uint8)

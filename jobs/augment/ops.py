"""The operations that AutoAugment, RandAugment and TrivialAugment choose from, each over a group of images at once.

They are, pixel for pixel, those of ``torchvision.transforms`` (its v1) on uint8 tensors, nearest neighbour and black
where nothing is; ``torchvision.transforms.v2`` differs by one level in four of them and in Solarize's threshold, and
Pillow's, which both use for PIL images, round otherwise. Images are ``(n, H, W, C)``, a magnitude is float64 ``(n,)``,
one an image. Sums are of whole numbers and everything else goes pixel by pixel, so an image comes out the same alone,
in a batch, on the CPU and on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from jobs.randomness import SampleDraws


def affine(images: Tensor, rows: tuple[tuple[Tensor | float, ...], ...]) -> Tensor:
    """Each pixel from where its image's matrix sends it, nearest neighbour; black outside.

    Args:
        images: uint8 ``(n, H, W, C)``.
        rows: ``((a, b, c), (d, e, f))``, numbers or float64 ``(n,)``: pixel ``(x, y)`` shows ``(a x + b y + c,
            d x + e y + f)``, in pixels from the centre of the image.
    """
    count, height, width, _ = images.shape
    x = (torch.arange(width, device=images.device) - (width - 1) / 2)[None, None, :]
    y = (torch.arange(height, device=images.device) - (height - 1) / 2)[None, :, None]
    places = []
    for row, size in zip(rows, (width, height), strict=True):
        # torchvision's own steps, float32 rounding included: it decides between two pixels that are equally near
        half = torch.full((), size / 2, device=images.device)  # CUDA multiplies by the inverse of a Python number
        by_x, by_y, offset = (_column(entry, images) / half for entry in row)
        places.append((((x * by_x + y * by_y + offset) + 1) * half - 0.5).round().to(torch.int64))
    column, line = places
    inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
    sample = torch.arange(count, device=images.device)[:, None, None]
    pixel = (sample * height + line.clamp(0, height - 1)) * width + column.clamp(0, width - 1)
    found = images.reshape(-1, images.shape[3]).index_select(0, pixel.flatten())
    return found.view_as(images) * inside[..., None]


def _column(entry: Tensor | float, images: Tensor) -> Tensor:
    if not isinstance(entry, Tensor):
        entry = torch.full((len(images),), entry, device=images.device)
    return entry.to(torch.float32)[:, None, None]


def shear_x(images: Tensor, magnitude: Tensor) -> Tensor:
    """Move each line sideways by ``magnitude`` times its distance from the upper edge."""
    return affine(images, ((1.0, magnitude, magnitude * (images.shape[1] / 2)), (0.0, 1.0, 0.0)))


def shear_y(images: Tensor, magnitude: Tensor) -> Tensor:
    """Move each column up or down by ``magnitude`` times its distance from the left edge."""
    return affine(images, ((1.0, 0.0, 0.0), (magnitude, 1.0, magnitude * (images.shape[2] / 2))))


def translate_x(images: Tensor, magnitude: Tensor) -> Tensor:
    """Move right by whole pixels."""
    return affine(images, ((1.0, 0.0, -magnitude.trunc()), (0.0, 1.0, 0.0)))


def translate_y(images: Tensor, magnitude: Tensor) -> Tensor:
    """Move down by whole pixels."""
    return affine(images, ((1.0, 0.0, 0.0), (0.0, 1.0, -magnitude.trunc())))


def rotate(images: Tensor, magnitude: Tensor) -> Tensor:
    """Turn counter-clockwise about the centre by ``magnitude`` degrees."""
    angle = magnitude.deg2rad()
    return affine(images, ((angle.cos(), -angle.sin(), 0.0), (angle.sin(), angle.cos(), 0.0)))


def blend(images: Tensor, others: Tensor | float, factor: Tensor) -> Tensor:
    """``factor images + (1 - factor) others``, cut to 0..255 and rounded down; ``factor`` is float64 ``(n,)``."""
    ours, theirs = (share.to(torch.float32).view(-1, 1, 1, 1) for share in (factor, 1 - factor))
    return images.to(torch.float32).mul_(ours).add_(theirs * others).clamp_(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Luma of ITU-R 601, rounded down: uint8 ``(n, H, W, 1)`` of images with 3 channels; grey ones are their own."""
    if images.shape[3] == 1:
        return images
    red, green, blue = images.split(1, 3)
    luma: Tensor = 0.2989 * red + 0.587 * green + 0.114 * blue
    return luma.to(torch.uint8)


def brightness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with black; magnitude 0 changes nothing, -1 is black."""
    return blend(images, 0.0, 1 + magnitude)


def color(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the image's grey version; grey images stay as they are."""
    return images if images.shape[3] == 1 else blend(images, grey(images), 1 + magnitude)


def contrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the mean of the image's grey version."""
    pixels = torch.full((), float(images.shape[1] * images.shape[2]), device=images.device)
    mean = grey(images).sum((1, 2, 3), dtype=torch.int64).to(torch.float32) / pixels
    return blend(images, mean.view(-1, 1, 1, 1), 1 + magnitude)


def sharpness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the image smoothed, save its edges: means over 3 x 3 pixels, the middle one counting five times."""
    if min(images.shape[1:3]) < 3:
        return images
    smooth = images.to(torch.float32)
    lines = smooth[:, :-2] + smooth[:, 1:-1] + smooth[:, 2:]
    middle = smooth[:, 1:-1, 1:-1]
    middle.copy_(((lines[:, :, :-2] + lines[:, :, 1:-1] + lines[:, :, 2:] + 4 * middle) / 13).round_())
    return blend(images, smooth, 1 + magnitude)


def posterize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Keep the ``magnitude`` highest bits of every value."""
    shift = (8 - magnitude).to(torch.uint8).view(-1, 1, 1, 1)
    return (images >> shift) << shift


def solarize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Invert the values that reach the threshold ``magnitude``."""
    return torch.where(images >= magnitude.to(torch.float32).view(-1, 1, 1, 1), 255 - images, images)


def autocontrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Stretch every channel to 0..255; one of a single value stays as it is."""
    low, high = images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1.0, 255 / (high - low).to(torch.float32))
    return ((images.to(torch.float32) - low.masked_fill(flat, 0)) * scale).clamp_(0, 255).to(torch.uint8)


def equalize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Flatten the histogram of every channel, as Pillow does."""
    from torchvision.transforms.v2.functional import equalize_image

    equalized: Tensor = equalize_image(images.permute(0, 3, 1, 2))
    return equalized.permute(0, 2, 3, 1)


def invert(images: Tensor, magnitude: Tensor) -> Tensor:
    """The negative."""
    return 255 - images


def solarize_add(images: Tensor, magnitude: Tensor) -> Tensor:
    """Brighten the values below 128 by ``magnitude`` (timm's)."""
    brighter = images.to(torch.int16) + magnitude.to(torch.int16).view(-1, 1, 1, 1)
    return torch.where(images < 128, brighter.clamp_(max=255).to(torch.uint8), images)


def identity(images: Tensor, magnitude: Tensor) -> Tensor:
    """The images themselves."""
    return images


OPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Identity": identity,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
    "Brightness": brightness,
    "Color": color,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
    "SolarizeAdd": solarize_add,
}
"""Every operation under the name that the papers give it."""

DRAWN = 14
"""How many of ``OPS``, from the first, RandAugment and TrivialAugment draw from: all but Invert and SolarizeAdd."""

SIGNED = slice(1, 10)
"""Places in ``OPS`` of the operations whose magnitude is as often negative: ShearX to Sharpness."""


def _levels(bins: int, tops: tuple[float, ...], lost_bits: int) -> Tensor:
    """What the bins of a magnitude mean to every operation: float64 ``(operations, bins)``, 0 where it takes none.

    Args:
        bins: magnitudes there are.
        tops: the last bin's magnitudes of the operations ``SIGNED``; the first bin changes nothing.
        lost_bits: bits that Posterize takes away at the last.
    """
    table = torch.zeros(len(OPS), bins, dtype=torch.float64)
    for row, top in zip(table[SIGNED], tops, strict=True):
        row.copy_(torch.linspace(0, top, bins))  # in float32, as torchvision's
    names = list(OPS)
    table[names.index("Posterize")] = 8 - (torch.arange(bins) / ((bins - 1) / lost_bits)).round()
    table[names.index("Solarize")] = torch.linspace(255, 0, bins)
    return table


@lru_cache
def paper_levels(bins: int, height: int, width: int) -> Tensor:
    """Magnitudes ``(operations, bins)`` of AutoAugment (10 bins) and RandAugment (31): shear to 0.3 pixels a pixel,
    shifts to 150/331 of the image, 30 degrees, factors from 0.1 to 1.9, 4 bits."""
    return _levels(bins, (0.3, 0.3, 150 / 331 * width, 150 / 331 * height, 30, 0.9, 0.9, 0.9, 0.9), 4)


@lru_cache
def mix_levels(height: int, width: int) -> Tensor:
    """Magnitudes ``(operations, 10)`` of torchvision's AugMix: AutoAugment's, but shifts to a third of the image and
    4 to 0 bits."""
    levels = _levels(10, (0.3, 0.3, width / 3.0, height / 3.0, 30, 0.9, 0.9, 0.9, 0.9), 4)
    levels[list(OPS).index("Posterize")] -= 4
    return levels


@lru_cache
def wide_levels(bins: int) -> Tensor:
    """Magnitudes ``(operations, bins)`` of TrivialAugment's wide space, whatever the size: shear to 0.99, shifts to 32
    pixels, 135 degrees, factors from 0.01 to 1.99, 6 bits."""
    return _levels(bins, (0.99, 0.99, 32, 32, 135, 0.99, 0.99, 0.99, 0.99), 6)


def timm_magnitudes(chosen: Tensor, level: Tensor, height: int, width: int) -> Tensor:
    """Magnitudes ``(n,)`` of timm's increasing operations at levels from 0 to 10, before their sign: shear to 0.3,
    shifts to 0.45 of the image, 30 degrees, factors from 0.1 to 1.9, and whole numbers rounded down where timm does.

    Args:
        chosen: int64 ``(n,)``, places in ``OPS``.
        level: float64 ``(n,)``.
        height: rows of the images.
        width: their columns.
    """
    share, names = level / 10, list(OPS)
    table = torch.zeros(len(OPS), len(level), dtype=torch.float64)
    for row, top in zip(table[SIGNED], (0.3, 0.3, 0.45 * width, 0.45 * height, 30, 0.9, 0.9, 0.9, 0.9), strict=True):
        row.copy_(share * top)
    table[names.index("Posterize")] = 4 - (share * 4).floor()
    table[names.index("Solarize")] = 256 - (share * 256).floor()
    table[names.index("SolarizeAdd")] = (share * 110).floor()
    return table[chosen, torch.arange(len(level))]


def signed(magnitude: Tensor, chosen: Tensor, uniform: Tensor) -> Tensor:
    """``magnitude``, negative where the operation ``chosen`` takes a sign and ``uniform`` in [0, 1) is below half."""
    takes_sign = torch.zeros(len(OPS), dtype=torch.bool)
    takes_sign[SIGNED] = True
    return torch.where(takes_sign[chosen] & (uniform < 0.5), -magnitude, magnitude)


def apply(images: Tensor, chosen: Tensor, magnitude: Tensor, draws: SampleDraws) -> Tensor:
    """Each image after its own operation, called once for all images that drew it.

    Args:
        images: uint8 ``(N, H, W, C)``.
        chosen: int64 ``(N,)`` on the CPU, places in ``OPS``.
        magnitude: float64 ``(N,)`` on the CPU.
        draws: knows the way to the images' device.
    """
    order = chosen.argsort(stable=True)
    sizes = chosen.bincount(minlength=len(OPS)).tolist()
    groups = images[draws.put(order)].split(sizes)
    magnitudes = draws.put(magnitude[order]).split(sizes)
    each = zip(OPS.values(), groups, magnitudes, strict=True)
    done = [op(group, strength) for op, group, strength in each if len(group)]
    return torch.cat(done)[draws.put(order.argsort())]

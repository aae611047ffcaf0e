"""3-Augment (Touvron et al., DeiT III, arXiv 2204.07118, section 3.2): each image is made grey, solarised or blurred.

One of the three, drawn evenly, with Pillow's arithmetic, as the authors' code has it: luma of ITU-R 601, values of 128
and more inverted, and a Gaussian of a standard deviation of U[0.1, 2] pixels, which Pillow makes of three box blurs in
each direction (Gwosdek et al. 2011). They put it after crop and flip and before a colour jitter of 0.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jobs.augment.trick import Augmentation

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws

_ONE, _PASSES = 1 << 24, 3


def weights(deviation: torch.Tensor) -> torch.Tensor:
    """Int64 ``(3, n)`` of float64 deviations ``(n,)`` up to 2: what a box gives the middle pixel, its neighbours and
    theirs, in parts of 2^24, by Pillow's steps in single precision."""
    import torch

    single = deviation.to(torch.float32)
    variance = single * single / _PASSES
    length = (12.0 * variance.double() + 1.0).sqrt().to(torch.float32)
    whole = ((length - 1.0) / 2.0).floor()
    share = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) * (whole + 1)))
    radius = whole + share
    inner = (_ONE / (radius * 2 + 1)).to(torch.int64)
    outer = (_ONE - (2 * radius.to(torch.int64) + 1) * inner) // 2
    wide = radius >= 1
    return torch.stack((inner, torch.where(wide, inner, outer), torch.where(wide, outer, 0)))


def blur(images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Uint8 ``(n, H, W, C)`` after boxes of the ``weights`` ``(3, n)``, three along rows, then three along columns."""
    import torch

    values = images.to(torch.int64)
    middle, near, far = weights.view(3, -1, 1, 1, 1)
    for axis in (2, 1):
        last = values.shape[axis] - 1
        place = torch.arange(last + 1, device=images.device)
        for _ in range(_PASSES):
            around = [values.index_select(axis, (place + step).clamp(0, last)) for step in (-1, 1, -2, 2)]
            total = middle * values + near * (around[0] + around[1]) + far * (around[2] + around[3])
            values = (total + _ONE // 2) >> 24
    return values.to(torch.uint8)


def grey(images: torch.Tensor) -> torch.Tensor:
    """Pillow's luma in every channel of uint8 ``(n, H, W, 3)``."""
    import torch

    red, green, blue = images.to(torch.int64).unbind(3)
    luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return luma.to(torch.uint8)[..., None].expand_as(images)


class ThreeAugment(Augmentation):
    """Make each image grey, solarise or blur it."""

    kind: Literal["three_augment"] = "three_augment"

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Change each image; lanes of draws: which of the three, the blur's deviation."""
        import torch

        choice, deviation = draws.host.uniform("three_augment", 2).T
        which, changed = (choice * 3).to(torch.int64), images.clone()
        first, second, third = ((which == number).nonzero()[:, 0] for number in range(3))
        there = [draws.put(index) for index in (first, second, third)]
        if len(first) and images.shape[3] == 3:
            changed[there[0]] = grey(images[there[0]])
        changed[there[1]] = torch.where(images[there[1]] >= 128, 255 - images[there[1]], images[there[1]])
        changed[there[2]] = blur(images[there[2]], draws.put(weights(0.1 + 1.9 * deviation[third])))
        return changed

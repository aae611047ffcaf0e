"""Colour jitter: random factors of brightness, contrast and saturation, and a random shift of the hue.

The baseline of the bag of tricks (arXiv 1812.01187) draws factors of brightness, saturation and hue from U[0.6, 1.4];
its authors' code (gluon-cv) has brightness, contrast and saturation instead, which are the defaults here. A factor of
the hue depends on where the colour circle is cut open, so ``hue`` is a shift along it, as in torchvision.

Departures from torchvision: brightness, contrast, saturation and hue come in this order, not in a random one (24 orders
would be 24 groups of images); hue is rounded to the nearest grey level. Grey images keep saturation and hue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jobs.augment.trick import Augmentation

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws


def shift_hue(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Turn the hue of uint8 ``(N, H, W, C)`` images by ``shift``, float64 ``(N,)`` in turns; value and saturation stay.

    With h the hue in sixths of a turn, a channel of offset n = 5, 3, 1 (red, green, blue) is
    ``max - (max - min) clamp(min(k, 4 - k), 0, 1)`` where ``k = (n + h) mod 6``.
    """
    import torch

    if images.shape[3] == 1:
        return images
    red, green, blue = images.to(torch.float32).unbind(3)
    top, bottom = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    span = top - bottom
    width = torch.where(span == 0, 1, span)
    hue = torch.where(
        top == red,
        (green - blue) / width,
        torch.where(top == green, (blue - red) / width + 2, (red - green) / width + 4),
    )
    hue = hue + (6 * shift).to(torch.float32).view(-1, 1, 1)
    channels = []
    for offset in (5, 3, 1):
        k = hue + offset
        k = k - (k / 6).floor_() * 6
        channels.append(top - span * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, 3).round_().to(torch.uint8)


class ColorJitter(Augmentation):
    """Change brightness, contrast, saturation and hue of each image by draws of its own."""

    kind: Literal["color_jitter"] = "color_jitter"
    brightness: float = Field(0.4, ge=0, le=1)
    """Half the range of the factor that all values are multiplied by: U[1 - brightness, 1 + brightness]."""
    contrast: float = Field(0.4, ge=0, le=1)
    """The same for the distance of all values from the image's mean grey."""
    saturation: float = Field(0.4, ge=0, le=1)
    """The same for the distance of a pixel's colour from its grey."""
    hue: float = Field(0.0, ge=0, le=0.5)
    """Largest shift of the hue either way, in turns of the colour circle."""

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Jitter each image; lanes of draws: brightness, contrast, saturation, hue."""
        from jobs.augment import ops

        brightness, contrast, saturation, hue = (2 * draws.uniform("color_jitter", 4) - 1).unbind(1)
        if self.brightness:
            images = ops.brightness(images, self.brightness * brightness)
        if self.contrast:
            images = ops.contrast(images, self.contrast * contrast)
        if self.saturation:
            images = ops.color(images, self.saturation * saturation)
        if self.hue:
            images = shift_hue(images, self.hue * hue)
        return images

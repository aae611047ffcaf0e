"""A small convolutional network for small images (8x8 digits)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from jobs.models.model import Model

if TYPE_CHECKING:
    from torch import nn


class CNN(Model):
    """Three 3x3 convolutions, the last two at stride 2, global average pooling and a linear layer."""

    residual: ClassVar[bool] = False

    kind: Literal["cnn"] = "cnn"
    width: int = Field(32, gt=0, le=8192)
    """Channels of the first convolution; they double at each of the next two."""
    norm: bool = True
    """BatchNorm after each convolution; without it the convolutions have biases."""

    def build(self, classes: int, channels: int) -> nn.Module:
        """A freshly initialised network."""
        from torch import nn

        layers: list[nn.Module] = []
        widths = (channels, self.width, 2 * self.width, 4 * self.width)
        for (before, after), stride in zip(pairwise(widths), (1, 2, 2), strict=True):
            layers.append(nn.Conv2d(before, after, 3, stride, 1, bias=not self.norm))
            layers += [nn.BatchNorm2d(after)] if self.norm else []
            layers.append(nn.ReLU(inplace=True))
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))

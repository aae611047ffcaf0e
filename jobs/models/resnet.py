"""ResNet (He et al., arXiv 1512.03385), our own; the network itself is in ``jobs.models.residual``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from jobs.models.model import Model

if TYPE_CHECKING:
    from torch import nn


class ResNet(Model):
    """Residual network for small images (depths 6n + 2: 8 to 110) or for ImageNet (18, 34, 50, 101, 152)."""

    kind: Literal["resnet"] = "resnet"
    depth: Literal[8, 14, 20, 32, 56, 110, 18, 34, 50, 101, 152]
    """Layers with weights: 8, 14, 20, 32, 56, 110 for small images, 18, 34, 50, 101, 152 for ImageNet."""
    width: PositiveInt | None = None
    """Channels of the first stage, doubled at each later one; None is 16 (small images) or 64 (ImageNet)."""

    def build(self, classes: int, channels: int) -> nn.Module:
        """A freshly initialised network."""
        from jobs.models.residual import BLOCKS, ResidualNetwork

        return ResidualNetwork(self.depth, self.width or (64 if self.depth in BLOCKS else 16), classes, channels)

"""ResNet (He et al., arXiv 1512.03385) and its variants of arXiv 1812.01187, our own.

The network itself is in ``jobs.models.residual``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from jobs.models.model import Model

if TYPE_CHECKING:
    from torch import nn

_IMAGENET_DEPTHS = (18, 34, 50, 101, 152)


class ResNet(Model):
    """Residual network for small images (depths 6n + 2: 8 to 110) or for ImageNet (18, 34, 50, 101, 152)."""

    kind: Literal["resnet"] = "resnet"
    depth: Literal[8, 14, 20, 32, 56, 110, 18, 34, 50, 101, 152]
    """Layers with weights: 8, 14, 20, 32, 56, 110 for small images, 18, 34, 50, 101, 152 for ImageNet."""
    width: int | None = Field(None, gt=0, le=8192)
    """Channels of the first stage, doubled at each later one; None is 16 (small images) or 64 (ImageNet)."""
    variant: Literal["A", "B", "C", "D"] = "B"
    """A: bottlenecks stride in their first 1x1 convolution; B: in the 3x3 one; C: B and a stem of three 3x3
    convolutions; D: C and shortcuts that average before they project. Depths for small images have a 3x3 stem and no
    bottlenecks: there A is B, D changes the shortcuts alone, and C is refused."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth (Huang et al., arXiv 1603.09382): probability that an image skips the branch of the last block;
    it rises linearly from 0 at the first block."""

    @model_validator(mode="after")
    def _has_the_stem(self) -> Self:
        if self.variant == "C" and self.depth not in _IMAGENET_DEPTHS:
            raise ValueError(
                f"variant C replaces the 7x7 stem that depths {', '.join(map(str, _IMAGENET_DEPTHS))} have; depth "
                f"{self.depth} has a 3x3 stem: take variant B, or D, which changes the shortcuts"
            )
        return self

    def build(self, classes: int, channels: int) -> nn.Module:
        """A freshly initialised network."""
        from jobs.models.residual import ResidualNetwork

        width = self.width or (64 if self.depth in _IMAGENET_DEPTHS else 16)
        return ResidualNetwork(self.depth, width, classes, channels, self.variant, self.zero_gamma, self.drop_path)

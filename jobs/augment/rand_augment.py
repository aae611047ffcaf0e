"""RandAugment (Cubuk et al., arXiv 1909.13719): a few operations an image, drawn evenly, all at one magnitude.

``ops: torchvision`` has its 14 operations, each of which is applied, and its magnitudes, a bin of 31 as in the paper.
``ops: timm`` is what timm, DeiT and "ResNet strikes back" (arXiv 2110.00476) train with, "rand-m9-mstd0.5-inc1": its 15
operations, Invert and SolarizeAdd among them, magnitudes from 0 to 10, a normal deviation of the magnitude, and each
drawn operation applied with probability 0.5. Pixels are torchvision's in both (``jobs.augment.ops``): timm's are
Pillow's, interpolated and with a grey background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from jobs.augment.trick import Augmentation

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws

_POINTWISE = "AutoContrast Equalize Invert Rotate Posterize Solarize SolarizeAdd Color Contrast Brightness Sharpness"
TIMM_OPS = (*_POINTWISE.split(), "ShearX", "ShearY", "TranslateX", "TranslateY")
"""timm's operations, in its order."""
_MOST = {"torchvision": 30, "timm": 10}


class RandAugment(Augmentation):
    """Apply operations drawn for each image, one after the other."""

    kind: Literal["rand_augment"] = "rand_augment"
    num_ops: int = Field(2, ge=1, le=14)
    """Operations an image, drawn with replacement."""
    magnitude: int = Field(9, ge=0, le=30)
    """Strength of all operations, at most 30 (torchvision) or 10 (timm); 0 leaves most of them without effect."""
    ops: Literal["torchvision", "timm"] = "torchvision"
    """Whose operations and magnitudes."""
    probability: float = Field(1.0, ge=0, le=1)
    """Chance of each drawn operation to be applied; timm's is 0.5."""
    magnitude_std: float = Field(0.0, ge=0, le=10)
    """Standard deviation of a normal change of the magnitude, drawn for each operation; of timm's ones only."""

    @model_validator(mode="after")
    def _on_the_scale(self) -> Self:
        if self.magnitude > _MOST[self.ops]:
            raise ValueError(f"magnitude {self.magnitude} is more than {_MOST[self.ops]}, the most of ops: {self.ops}")
        if self.magnitude_std and self.ops != "timm":
            raise ValueError(
                f"magnitude_std {self.magnitude_std:g} needs ops: timm; torchvision's magnitudes are bins of 31"
            )
        return self

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Apply each image's operations; lanes of draws: (operation, sign) for each, then (applied, deviation)."""
        import torch

        from jobs.augment import ops

        height, width = images.shape[1:3]
        names = TIMM_OPS if self.ops == "timm" else tuple(ops.OPS)[: ops.DRAWN]
        places = torch.tensor([list(ops.OPS).index(name) for name in names])
        uniform = draws.host.uniform("rand_augment", 4 * self.num_ops)
        for step in range(self.num_ops):
            choice, sign = uniform[:, 2 * step], uniform[:, 2 * step + 1]
            applied, deviation = uniform[:, 2 * (self.num_ops + step)], uniform[:, 2 * (self.num_ops + step) + 1]
            op = places[(choice * len(places)).to(torch.int64)]
            if self.ops == "timm":
                normal = torch.special.ndtri(deviation) if self.magnitude_std else torch.zeros_like(deviation)
                level = (self.magnitude + self.magnitude_std * normal).clamp(0, 10)
                magnitude = ops.timm_magnitudes(op, level, height, width)
            else:
                magnitude = ops.paper_levels(31, height, width)[op, self.magnitude]
            op = torch.where(applied < self.probability, op, 0)  # 0 is Identity
            images = ops.apply(images, op, ops.signed(magnitude, op, sign), draws)
        return images

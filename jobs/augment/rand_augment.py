"""RandAugment (Cubuk et al., arXiv 1909.13719): a few operations an image, drawn evenly, all at one magnitude.

Operations, magnitudes and pixels are torchvision's; the magnitude is a bin of 31, as in the paper. timm counts to 10
and draws from more operations: its m7 turns and shears as much as 21 does here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jobs.augment.trick import Augmentation

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws


class RandAugment(Augmentation):
    """Apply operations drawn for each image, one after the other."""

    kind: Literal["rand_augment"] = "rand_augment"
    num_ops: int = Field(2, ge=1, le=14)
    """Operations an image, drawn with replacement."""
    magnitude: int = Field(9, ge=0, le=30)
    """Strength of all operations; 0 leaves most of them without effect."""

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Apply each image's operations; lanes of draws: (operation, sign) for each in turn."""
        import torch

        from jobs.augment import ops

        height, width = images.shape[1:3]
        levels = ops.paper_levels(31, height, width)[:, self.magnitude]
        uniform = draws.host.uniform("rand_augment", 2 * self.num_ops)
        for step in range(self.num_ops):
            op = (uniform[:, 2 * step] * ops.DRAWN).to(torch.int64)
            magnitude = ops.signed(levels[op], op, uniform[:, 2 * step + 1])
            images = ops.apply(images, op, magnitude, draws)
        return images

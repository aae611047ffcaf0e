"""TrivialAugment (Mueller and Hutter, arXiv 2103.10158): one operation an image at a magnitude, both drawn evenly.

This is the paper's wide space, with torchvision's operations, magnitudes (31 bins) and pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jobs.augment.trick import Augmentation

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws


class TrivialAugment(Augmentation):
    """Apply one operation drawn for each image; it has nothing to tune."""

    kind: Literal["trivial_augment"] = "trivial_augment"

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Apply each image's operation; lanes of draws: operation, bin of the magnitude, sign."""
        import torch

        from jobs.augment import ops

        levels = ops.wide_levels(31)
        uniform = draws.host.uniform("trivial_augment", 3)
        op = (uniform[:, 0] * ops.DRAWN).to(torch.int64)
        magnitude = levels[op, (uniform[:, 1] * levels.shape[1]).to(torch.int64)]
        return ops.apply(images, op, ops.signed(magnitude, op, uniform[:, 2]), draws)

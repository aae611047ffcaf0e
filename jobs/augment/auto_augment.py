"""AutoAugment (Cubuk et al., arXiv 1805.09501): one of 25 sub-policies an image, found by a search on the data set.

A sub-policy is two operations, each taken with its own probability at its own magnitude (``jobs.augment.policies``), on
uint8 images after crop and flip and before normalising; magnitudes and pixels are torchvision's. CIFAR-10's images get
a Cutout hole of 16 pixels afterwards, SVHN's one of 20: that is a trick of its own, ``batch.cutout``.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

from jobs.augment.policies import POLICIES
from jobs.augment.trick import Augmentation

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws


@cache
def table(policy: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Operations, probabilities and bins of a policy, each ``(25, 2)``."""
    import torch

    from jobs.augment.ops import OPS

    names = list(OPS)
    steps = [[(names.index(name), probability, bin_) for name, probability, bin_ in each] for each in POLICIES[policy]]
    chosen, probability, bin_ = torch.tensor(steps, dtype=torch.float64).unbind(2)
    return chosen.to(torch.int64), probability, bin_.to(torch.int64)


class AutoAugment(Augmentation):
    """Change colours and geometry by a sub-policy drawn for each image."""

    kind: Literal["auto_augment"] = "auto_augment"
    policy: Literal["cifar10", "imagenet", "svhn"]
    """The data set that the policy was found on; CIFAR-100 takes cifar10's."""

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Take each image's two steps; lanes of draws: sub-policy, then (taken, sign) a step."""
        import torch

        from jobs.augment import ops

        height, width = images.shape[1:3]
        levels = ops.paper_levels(10, height, width)
        uniform = draws.host.uniform("auto_augment", 5)
        chosen, probability, bin_ = (
            column[(uniform[:, 0] * len(column)).to(torch.int64)] for column in table(self.policy)
        )
        for step in range(2):
            taken = uniform[:, 1 + 2 * step] < probability[:, step]
            op = torch.where(taken, chosen[:, step], 0)  # 0 is Identity
            magnitude = ops.signed(levels[op, bin_[:, step]], op, uniform[:, 2 + 2 * step])
            images = ops.apply(images, op, magnitude, draws)
        return images

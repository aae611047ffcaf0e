"""AugMix (Hendrycks et al., arXiv 1912.02781): a few chains of operations on an image are mixed with it.

``x_new = m_0 x + m_1 sum_i w_i chain_i(x)`` with m ~ Dirichlet(alpha, alpha), w ~ Dirichlet(alpha, ..., alpha) and
chains of one to three operations, as torchvision has it: its operations, its magnitudes (the lowest ``severity`` of 10
bins) and its pixels with nearest neighbours. The paper's loss between three views of an image (Jensen-Shannon) is not
part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jobs.augment.trick import Augmentation

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws

PAPERS = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Posterize", "Solarize", "AutoContrast", "Equalize")
COLOURS = ("Brightness", "Color", "Contrast", "Sharpness")
"""Operations in torchvision's order; those of COLOURS are among the corruptions of ImageNet-C, so the paper has not."""
DEEPEST = 3
"""Operations of the longest chain."""


def dirichlet(uniform: torch.Tensor, alpha: float) -> torch.Tensor:
    """Draws ``(N, K)`` of Dirichlet(alpha, ..., alpha) of as many uniforms, float64 on the CPU."""
    import torch
    from scipy.special import gammaincinv

    gammas = torch.from_numpy(gammaincinv(alpha, uniform.numpy())).clamp_(min=1e-300)
    return gammas / gammas.sum(1, keepdim=True)


class AugMix(Augmentation):
    """Mix each image with chains of operations on it."""

    kind: Literal["aug_mix"] = "aug_mix"
    severity: int = Field(3, ge=1, le=10)
    """How many of the 10 bins of magnitudes are drawn from, the weakest first."""
    width: int = Field(3, ge=1, le=10)
    """Chains an image."""
    depth: int | None = Field(None, ge=1, le=DEEPEST)
    """Operations a chain; null draws 1 to 3 for each."""
    alpha: float = Field(1.0, ge=0.01, le=100)
    """Shape of both Dirichlet distributions."""
    all_ops: bool = True
    """Whether brightness, colour, contrast and sharpness are among the operations (torchvision) or not (the paper)."""

    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """Mix each image; lanes of draws: m, w, then a chain's depth and three times (operation, bin, sign)."""
        import torch

        from jobs.augment import ops

        height, width = images.shape[1:3]
        levels, names = ops.mix_levels(height, width), [*PAPERS, *(COLOURS if self.all_ops else ())]
        places = torch.tensor([list(ops.OPS).index(name) for name in names])
        uniform = draws.host.uniform("aug_mix", 2 + self.width * (2 + 3 * DEEPEST))
        m, w = dirichlet(uniform[:, :2], self.alpha), dirichlet(uniform[:, 2 : 2 + self.width], self.alpha)
        shares = draws.put(torch.cat((m[:, :1], m[:, 1:] * w), 1).to(torch.float32))[..., None, None, None]
        mixed = shares[:, 0] * images
        for chain, lanes in enumerate(uniform[:, 2 + self.width :].chunk(self.width, 1)):
            depth = (lanes[:, 0] * DEEPEST).to(torch.int64) + 1 if self.depth is None else self.depth
            changed = images
            for step in range(DEEPEST):
                choice, bin_, sign = lanes[:, 1 + 3 * step : 4 + 3 * step].T
                op = torch.where(step < torch.as_tensor(depth), places[(choice * len(places)).to(torch.int64)], 0)
                magnitude = ops.signed(levels[op, (bin_ * self.severity).to(torch.int64)], op, sign)
                changed = ops.apply(changed, op, magnitude, draws)
            mixed += shares[:, 1 + chain] * changed
        return mixed.clamp_(0, 255).to(torch.uint8)

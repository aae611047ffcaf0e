"""mixup (Zhang et al., arXiv 1710.09412): ``x = lam x_i + (1 - lam) x_j``, targets likewise, lam ~ Beta(alpha, alpha).

One lambda a batch, partners by a random permutation, as in the authors' code. The permutation is drawn before lambda,
and lambda by the inverse CDF of one uniform, so the same place of the run with another alpha mixes the same pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt

from jobs.batch.trick import At, BatchTrick

if TYPE_CHECKING:
    import torch


def mixup(x: torch.Tensor, lam: float, perm: torch.Tensor) -> torch.Tensor:
    """``lam x + (1 - lam) x[perm]`` for images ``(N, C, H, W)`` or targets ``(N, K)``; ``perm`` is int64 ``(N,)``."""
    return x * lam + x[perm] * (1.0 - lam)


class Mixup(BatchTrick):
    """Mix every image and its target with those of a random partner of its part of the batch."""

    kind: Literal["mixup"] = "mixup"
    alpha: float = Field(0.2, ge=1e-4, le=1e4)
    """Shape of the symmetric Beta distribution that lambda is drawn from; far outside these bounds it overflows."""
    off_epochs: NonNegativeInt = 0
    """Number of last epochs that train without mixing."""

    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, at: At
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix ``x`` and ``y``."""
        import torch
        from scipy.special import betaincinv

        if at.epoch >= at.epochs - self.off_epochs:
            return x, y
        perm = torch.randperm(len(x), generator=generator).to(x.device, non_blocking=True)
        uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
        lam = float(betaincinv(self.alpha, self.alpha, uniform))
        return mixup(x, lam, perm), mixup(y, lam, perm)

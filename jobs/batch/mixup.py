"""mixup (Zhang et al., arXiv 1710.09412): ``x = lam x_i + (1 - lam) x_j``, targets likewise, lam ~ Beta(alpha, alpha).

Partners by a random permutation and one lambda a batch, as in the authors' code, or one a sample (timm's ``elem``). The
permutation is drawn before lambda, and lambda by the inverse CDF of one uniform, so the same place of the run with
another alpha mixes the same pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jobs.batch.trick import At, Mixing

if TYPE_CHECKING:
    import torch


def mixup(x: torch.Tensor, lam: float | torch.Tensor, perm: torch.Tensor) -> torch.Tensor:
    """``lam x + (1 - lam) x[perm]`` for images ``(N, C, H, W)`` or targets ``(N, K)``.

    Args:
        x: what is mixed.
        lam: one for all, or ``(N,)`` of ``x``'s dtype.
        perm: int64 ``(N,)``.
    """
    if not isinstance(lam, float):
        lam = lam.view(-1, *[1] * (x.ndim - 1))
    return x[perm].lerp_(x, lam)


class Mixup(Mixing):
    """Mix every image and its target with those of a random partner of its part of the batch."""

    kind: Literal["mixup"] = "mixup"
    alpha: float = Field(0.2, ge=1e-4, le=1e4)
    """Shape of the symmetric Beta distribution that lambda is drawn from; small ones hardly mix."""
    per: Literal["batch", "sample"] = "batch"
    """Whether a batch shares one lambda or each of its images has its own."""

    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, at: At
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix ``x`` and ``y``."""
        import torch
        from scipy.special import betaincinv

        if self.off(at):
            return x, y
        perm = torch.randperm(len(x), generator=generator).to(x.device, non_blocking=True)
        if self.per == "batch":
            uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
            lam = float(betaincinv(self.alpha, self.alpha, uniform))
            return mixup(x, lam, perm), mixup(y, lam, perm)
        uniforms = torch.rand(len(x), generator=generator, dtype=torch.float64)
        lams = torch.from_numpy(betaincinv(self.alpha, self.alpha, uniforms.numpy())).to(x.dtype)
        lams = lams.to(x.device, non_blocking=True)
        return mixup(x, lams, perm), mixup(y, lams.to(y.dtype), perm)

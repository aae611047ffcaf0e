"""Label smoothing (Szegedy et al., arXiv 1512.00567, section 7).

Two forms are in use. ``uniform`` spreads epsilon over all K classes: the true class keeps ``1 - e + e/K`` (torch, timm,
gluon-cv). ``others`` spreads it over the K - 1 other ones: the true class keeps ``1 - e`` (the formula of arXiv
1812.01187). They are the same at ``e_uniform = e_others K / (K - 1)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jobs.batch.trick import At, BatchTrick

if TYPE_CHECKING:
    import torch


def label_smoothing(y: torch.Tensor, epsilon: float) -> torch.Tensor:
    """``(1 - epsilon) y + epsilon / K`` for soft targets ``(N, K)``."""
    return y * (1.0 - epsilon) + epsilon / y.shape[1]


class LabelSmoothing(BatchTrick):
    """Move a little probability from the true class to the others."""

    kind: Literal["label_smoothing"] = "label_smoothing"
    epsilon: float = Field(0.1, ge=0, lt=1)
    """Probability taken from the true class."""
    form: Literal["uniform", "others"] = "uniform"
    """Which classes receive it: all K (torch's form) or the K - 1 others (the paper's)."""

    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, at: At
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Smooth ``y``; ``x`` passes through."""
        classes = y.shape[1]
        scale = classes / (classes - 1) if self.form == "others" else 1.0
        return x, label_smoothing(y, self.epsilon * scale)

"""Cross-entropy with soft targets: ``-sum_k w_k y_k log softmax(z)_k``, averaged over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jobs.losses.loss import Loss, at_least_fp32

if TYPE_CHECKING:
    import torch


class CrossEntropy(Loss):
    """Soft-target cross-entropy; with one-hot targets it is the usual one."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Mean loss, a scalar."""
        import torch

        logits = at_least_fp32(logits)
        if weight is not None:  # linear in the targets; torch's own ``weight`` would do the same for soft ones
            targets = targets * weight
        return torch.nn.functional.cross_entropy(logits, targets.to(logits.dtype))

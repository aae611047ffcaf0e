"""Cross-entropy with soft targets: ``-sum_k y_k log softmax(z)_k``, averaged over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jobs.base import Spec

if TYPE_CHECKING:
    import torch


class CrossEntropy(Spec):
    """Soft-target cross-entropy; with one-hot targets it is the usual one."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss, a scalar.

        Args:
            logits: ``(N, K)``; half precisions are computed in float32.
            targets: ``(N, K)``, rows sum to 1.
        """
        import torch

        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        return torch.nn.functional.cross_entropy(logits, targets.to(logits.dtype))

"""Cross-entropy with the hard labels, whatever loss the job is trained with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.metrics.metric import Metric

if TYPE_CHECKING:
    import torch


class Loss(Metric):
    """``-log softmax(z)_y``."""

    name, better = "loss", "min"

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The cross-entropy of each image."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, labels, reduction="none")

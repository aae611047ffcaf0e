"""Top-5 accuracy: how often the true class is among the five most likely ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.metrics.metric import Metric

if TYPE_CHECKING:
    import torch


class Top5(Metric):
    """Share of the images whose class is among the five largest logits; with five classes it would always be 1."""

    name, better, min_classes = "top5", "max", 6

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """1 for each image that is recognised so, else 0."""
        return (logits.topk(5, dim=1).indices == labels[:, None]).any(1)

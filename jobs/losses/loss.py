"""What a loss is: ``loss(logits, targets, weight) -> scalar`` on soft targets."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from jobs.base import Spec

if TYPE_CHECKING:
    import torch


class Loss(Spec):
    """A loss between logits and soft targets."""

    @abstractmethod
    def __call__(self, logits: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a batch, a scalar; half precisions are computed in float32.

        Args:
            logits: ``(N, K)``.
            targets: ``(N, K)``, rows sum to 1.
            weight: ``(K,)``: how much each class counts (``data.class_weights``); None counts all alike.
        """


def at_least_fp32(logits: torch.Tensor) -> torch.Tensor:
    """The logits in float32, or as they are where they are wider."""
    return logits.float() if logits.dtype.itemsize < 4 else logits

"""What a metric is: a number for each image of a split; the metric of the split is their mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import torch


class Metric(ABC):
    """A metric that is a mean over images, so that it adds up over batches and ranks.

    Attributes:
        name: what it is recorded as.
        better: whether a higher (``max``) or a lower (``min``) value is better.
        min_classes: fewest classes for which it says something; it is left out for fewer.
    """

    name: ClassVar[str]
    better: ClassVar[Literal["max", "min"]]
    min_classes: ClassVar[int] = 2

    @abstractmethod
    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One value for each image, ``(n,)``; summed in float64.

        Args:
            logits: ``(n, K)``, float32 or wider, on the device.
            labels: int64 ``(n,)``, the true classes.
        """

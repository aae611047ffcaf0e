"""The fields every optimizer shares."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat, PositiveFloat

from jobs.base import Spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch


class Optimizer(Spec):
    """What every optimizer can be told."""

    lr: PositiveFloat
    """Learning rate at the global batch of the spec; the schedule multiplies it."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of all parameters."""
    clip_norm: PositiveFloat | None = None
    """Largest global L2 norm of the gradient; None does not clip."""

    @abstractmethod
    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer over these parameters, at ``lr``."""

"""Polynomial decay: the share of the run that is left, to a power (``poly`` of DeepLab, arXiv 1606.00915); power 1
is a straight line."""

from typing import Literal

from pydantic import Field

from jobs.base import Spec


class Polynomial(Spec):
    """``f + (1 - f) (1 - t / T)^power``: T updates follow the warmup, and t = 0 at the first of them."""

    kind: Literal["polynomial"] = "polynomial"
    power: float = Field(1.0, gt=0, le=100)
    """Exponent; 1 decays linearly, more decays faster at first."""
    final_factor: float = Field(0.0, ge=0, lt=1)
    """The floor f, which is reached at t = T, one update after the last."""

    def __call__(self, update: int, updates: int, warmup: int, updates_per_epoch: int) -> float:
        """Factor at ``update`` (from 1) of the ``updates`` that follow ``warmup`` updates."""
        left = 1.0 - (update - 1) / updates
        return float(self.final_factor + (1.0 - self.final_factor) * left**self.power)

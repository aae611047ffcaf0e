"""Cosine decay without restarts (SGDR, Loshchilov & Hutter, arXiv 1608.03983; as in arXiv 1812.01187, section 5.1).

The floor is SGDR's ``eta_min``, here as a share of the base rate; the paper of the tricks has none.
"""

import math
from typing import Literal

from pydantic import Field

from jobs.base import Spec


class Cosine(Spec):
    """``f + (1 - f) 0.5 (1 + cos(pi t / T))``: T updates follow the warmup, and t = 0 at the first of them."""

    kind: Literal["cosine"] = "cosine"
    final_factor: float = Field(0.0, ge=0, lt=1)
    """The floor f, which is reached at t = T, one update after the last."""

    def __call__(self, update: int, updates: int, warmup: int, updates_per_epoch: int) -> float:
        """Factor at ``update`` (from 1) of the ``updates`` that follow ``warmup`` updates."""
        share = 0.5 * (1.0 + math.cos(math.pi * (update - 1) / updates))
        return self.final_factor + (1.0 - self.final_factor) * share

"""Cosine decay without restarts (SGDR, Loshchilov & Hutter, arXiv 1608.03983; as in arXiv 1812.01187, section 5.1)."""

import math
from typing import Literal

from jobs.base import Spec


class Cosine(Spec):
    """``0.5 (1 + cos(pi t / T))``: T updates follow the warmup, and t = 0 at the first of them."""

    kind: Literal["cosine"] = "cosine"

    def __call__(self, update: int, updates: int, warmup: int, updates_per_epoch: int) -> float:
        """Factor at ``update`` (from 1) of the ``updates`` that follow ``warmup`` updates."""
        return 0.5 * (1.0 + math.cos(math.pi * (update - 1) / updates))

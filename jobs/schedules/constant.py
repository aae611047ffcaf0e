"""No decay."""

from typing import Literal

from jobs.base import Spec


class Constant(Spec):
    """The learning rate stays as it is."""

    kind: Literal["constant"] = "constant"

    def __call__(self, update: int, updates: int, warmup: int, updates_per_epoch: int) -> float:
        """Factor at ``update`` (from 1) of the ``updates`` that follow ``warmup`` updates."""
        return 1.0

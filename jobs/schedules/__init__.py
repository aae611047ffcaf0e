"""The learning-rate schedule: warmup, then a decay. Pure: update number -> factor."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat

from jobs.base import Spec
from jobs.schedules.constant import Constant
from jobs.schedules.cosine import Cosine
from jobs.schedules.polynomial import Polynomial
from jobs.schedules.step import Step

DecaySpec = Annotated[Constant | Cosine | Polynomial | Step, Field(discriminator="kind")]


class ScheduleSpec(Spec):
    """Warmup over the first updates, then the decay over the rest (Goyal et al., arXiv 1706.02677, for the warmup)."""

    warmup_epochs: NonNegativeFloat = 0.0
    """Length of the warmup in epochs; fractions are rounded to whole updates."""
    warmup: Literal["constant", "linear"] = "linear"
    """``linear`` rises as i/m over the m warmup updates; ``constant`` stays at ``warmup_factor``, then jumps to 1."""
    warmup_factor: float = Field(0.1, gt=0, le=1)
    """Factor on the learning rate during a ``constant`` warmup; ``linear`` ignores it."""
    decay: DecaySpec = Cosine()
    """How the learning rate falls after the warmup."""

    def __call__(self, update: int, updates: int, updates_per_epoch: int) -> float:
        """Factor on the base learning rate at one update.

        Args:
            update: which update, counted from 1.
            updates: number of updates of the whole run.
            updates_per_epoch: number of updates of an epoch.
        """
        warmup = self.warmup_updates(updates_per_epoch)
        if update <= warmup:
            return update / warmup if self.warmup == "linear" else self.warmup_factor
        return self.decay(update - warmup, updates - warmup, warmup, updates_per_epoch)

    def warmup_updates(self, updates_per_epoch: int) -> int:
        """Number of warmup updates."""
        return round(self.warmup_epochs * updates_per_epoch)


__all__ = ["Constant", "Cosine", "DecaySpec", "Polynomial", "ScheduleSpec", "Step"]

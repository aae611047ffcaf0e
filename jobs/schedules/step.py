"""Step decay: multiply by a factor at given epochs (the baseline of arXiv 1812.01187: 0.1 at epochs 30, 60, 90)."""

from typing import Annotated, Literal

from annotated_types import Len
from pydantic import Field, PositiveFloat, field_validator

from jobs.base import Spec


class Step(Spec):
    """``factor`` to the power of the number of milestones passed; milestones are epochs of the run, warmup included."""

    kind: Literal["step"] = "step"
    at_epochs: Annotated[tuple[PositiveFloat, ...], Len(1)]
    """Epochs after which the learning rate drops, ascending."""
    factor: float = Field(0.1, gt=0, lt=1)
    """Factor on the learning rate at each drop."""

    @field_validator("at_epochs")
    @classmethod
    def _ascending(cls, epochs: tuple[float, ...]) -> tuple[float, ...]:
        if list(epochs) != sorted(set(epochs)):
            raise ValueError(f"must ascend without repeats, got {list(epochs)}")
        return epochs

    def __call__(self, update: int, updates: int, warmup: int, updates_per_epoch: int) -> float:
        """Factor at ``update`` (from 1) of the ``updates`` that follow ``warmup`` updates."""
        done = update + warmup - 1
        passed = sum(done >= round(epoch * updates_per_epoch) for epoch in self.at_epochs)
        return float(self.factor**passed)

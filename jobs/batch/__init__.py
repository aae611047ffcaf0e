"""Tricks on whole batches, applied in the order in which the spec lists them."""

from typing import Annotated

from pydantic import Field

from jobs.batch.label_smoothing import LabelSmoothing
from jobs.batch.mixup import Mixup
from jobs.batch.trick import At, BatchTrick

BatchSpec = Annotated[LabelSmoothing | Mixup, Field(discriminator="kind")]

__all__ = ["At", "BatchSpec", "BatchTrick", "LabelSmoothing", "Mixup"]

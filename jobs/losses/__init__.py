"""Losses between logits ``(N, K)`` and soft targets ``(N, K)``."""

from typing import Annotated

from pydantic import Field

from jobs.losses.bce import BCE
from jobs.losses.cross_entropy import CrossEntropy
from jobs.losses.loss import Loss

LossSpec = Annotated[BCE | CrossEntropy, Field(discriminator="kind")]

__all__ = ["BCE", "CrossEntropy", "Loss", "LossSpec"]

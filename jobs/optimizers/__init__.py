"""Optimizers: specs that build a ``torch.optim.Optimizer`` over a model's parameters."""

from typing import Annotated

from pydantic import Field

from jobs.optimizers.adamw import AdamW
from jobs.optimizers.sgd import SGD

OptimizerSpec = Annotated[SGD | AdamW, Field(discriminator="kind")]

__all__ = ["SGD", "AdamW", "OptimizerSpec"]

"""Optimizers: specs that build a ``torch.optim.Optimizer`` over a network's parameters."""

from typing import Annotated

from pydantic import Field

from jobs.optimizers.adabound import AdaBound, AdaBoundW
from jobs.optimizers.adam import Adam
from jobs.optimizers.adamw import AdamW
from jobs.optimizers.optimizer import Optimizer
from jobs.optimizers.sgd import SGD
from jobs.optimizers.timm import Timm
from jobs.optimizers.torch import Torch

OptimizerSpec = Annotated[SGD | Adam | AdamW | AdaBound | AdaBoundW | Torch | Timm, Field(discriminator="kind")]

__all__ = ["SGD", "AdaBound", "AdaBoundW", "Adam", "AdamW", "Optimizer", "OptimizerSpec", "Timm", "Torch"]

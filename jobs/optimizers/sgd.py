"""Stochastic gradient descent with (Nesterov) momentum; weight decay is coupled (L2), as in every recipe of
the papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from jobs.optimizers.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch


class SGD(Optimizer):
    """``torch.optim.SGD``."""

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    """Nesterov's form of momentum."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0; set nesterov: false or raise momentum")
        return self

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer over these parameters, at ``lr``."""
        import torch

        return torch.optim.SGD(
            parameters, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )

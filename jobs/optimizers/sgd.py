"""Stochastic gradient descent with (Nesterov) momentum; weight decay is coupled (L2), as in every recipe of
the papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from jobs.optimizers.optimizer import Optimizer

if TYPE_CHECKING:
    import torch


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (``torch.optim.SGD``)."""

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the running sum of gradients that is kept at every update; 0 is plain SGD."""
    nesterov: bool = True
    """Nesterov's form of momentum."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0; set nesterov: false or raise momentum")
        return self

    def build(self, network: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimizer over the trainable parameters of ``network``.

        Momentum starts at zero, which gives the same first update as torch's empty start. Torch's own would not do:
        where the first update of all overflows, its fused kernel leaves momentum uninitialised and uses it afterwards.
        """
        import torch

        from jobs.optimizers.parameters import fused

        parameters = self.groups(network)
        optimizer = torch.optim.SGD(
            parameters, lr=lr, momentum=self.momentum, nesterov=self.nesterov, fused=fused(network)
        )
        if self.momentum:
            for parameter in (parameter for group in parameters for parameter in group["params"]):
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer

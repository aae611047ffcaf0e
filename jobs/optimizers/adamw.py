"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat

from jobs.optimizers.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Optimizer):
    """``torch.optim.AdamW``."""

    kind: Literal["adamw"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay rates of the first and second moments."""
    eps: PositiveFloat = 1e-8

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer over these parameters, at ``lr``."""
        import torch

        return torch.optim.AdamW(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)

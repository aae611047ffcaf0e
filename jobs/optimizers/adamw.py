"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101). As in torch, an update shrinks the
weights by ``lr * weight_decay``, so the decay follows the schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jobs.optimizers.optimizer import Beta, Eps, Optimizer

if TYPE_CHECKING:
    import torch


class AdamW(Optimizer):
    """Adam with decoupled weight decay (``torch.optim.AdamW``)."""

    kind: Literal["adamw"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay rates of the first and second moments."""
    eps: Eps = 1e-8
    """Added to the root of the second moment."""

    def build(self, network: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimizer over the trainable parameters of ``network``."""
        import torch

        from jobs.optimizers.parameters import fused

        parameters = self.groups(network)
        return torch.optim.AdamW(parameters, lr=lr, betas=self.betas, eps=self.eps, fused=fused(network))

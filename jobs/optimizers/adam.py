"""Adam (Kingma & Ba, arXiv 1412.6980); weight decay is coupled (L2): it is added to the gradient and so is divided by
the second moment too, which :mod:`jobs.optimizers.adamw` corrects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jobs.optimizers.optimizer import Beta, Eps, Optimizer

if TYPE_CHECKING:
    import torch


class Adam(Optimizer):
    """Adam with coupled (L2) weight decay (``torch.optim.Adam``)."""

    kind: Literal["adam"] = "adam"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay rates of the first and second moments."""
    eps: Eps = 1e-8
    """Added to the root of the second moment."""

    def build(self, network: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimizer over the trainable parameters of ``network``."""
        import torch

        from jobs.optimizers.parameters import fused

        parameters = self.groups(network)
        return torch.optim.Adam(parameters, lr=lr, betas=self.betas, eps=self.eps, fused=fused(network))

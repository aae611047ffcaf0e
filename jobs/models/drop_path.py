"""Stochastic depth (Huang et al., arXiv 1603.09382): residual branches are dropped at random in training.

A branch is dropped with probability ``rate``, and what survives is divided by ``1 - rate``, so that its expectation is
what it is in evaluation. Where we depart: the paper drops a branch for the whole batch and scales in evaluation; here
every sample has a draw of its own and training scales, as in torchvision ("row") and timm. The paper's rate of branch
l of L is ``rate l / L`` for l = 1 .. L; ours, as theirs, starts at 0: ``rate i / (L - 1)`` for i = 0 .. L - 1.
"""

from __future__ import annotations

import torch
from torch import nn


def drop_path(x: torch.Tensor, keep: torch.Tensor, rate: float) -> torch.Tensor:
    """``keep x / (1 - rate)``.

    Args:
        x: a branch's output ``(N, C, H, W)``.
        keep: 1 for the samples that keep it, else 0; ``(N, 1, 1, 1)``.
        rate: probability with which it was dropped.
    """
    return (x * keep.to(x.dtype)).div_(1.0 - rate)  # not keep / (1 - rate), which bf16 would round


class DropPath(nn.Module):
    """Drops its input sample by sample with probability ``rate`` in training; the identity in evaluation.

    Draws from the global generator of the input's device.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to the same."""
        if not self.training:
            return x
        keep = torch.empty((x.shape[0], 1, 1, 1), dtype=torch.float32, device=x.device).bernoulli_(1.0 - self.rate)
        return drop_path(x, keep, self.rate)

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate:g}"

"""Sharpness-aware minimisation (Foret et al., arXiv 2010.01412, equations 2 and 3): the gradient is taken where the
loss is highest near the weights, ``w + e`` with ``e = rho g / |g|``, and moves the weights from where they were.

``g`` is the gradient of the whole global batch, so that the result does not depend on the workers; the authors' figures
are of one such step a device. Every update computes each part twice, so training takes twice the time. As in their code
BatchNorm's running statistics are those of the first pass; dropout draws the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from jobs.base import Spec

if TYPE_CHECKING:
    import torch
    from torch import nn


class SAM(Spec):
    """Sharpness-aware minimisation."""

    rho: float = Field(0.05, gt=0, le=100)
    """How far the weights are moved up the loss, as an L2 norm; the paper's is 0.05, timm's ViTs have up to 0.2."""


def ascend(network: nn.Module, rho: float, again: Callable[[], None]) -> None:
    """Replace the gradients of ``network`` by those at ``w + e``, which ``again`` computes; weights and buffers end as
    they were."""
    import torch

    from jobs.buffers import untouched

    learned = [parameter for parameter in network.parameters() if parameter.grad is not None]
    gradients, weights = [parameter.grad for parameter in learned], [parameter.detach() for parameter in learned]
    before = [weight.clone() for weight in weights]
    torch._foreach_add_(weights, climb(gradients, rho))
    for parameter in learned:
        parameter.grad = None
    with untouched(network):
        again()
    torch._foreach_copy_(weights, before)


def climb(gradients: Sequence[torch.Tensor | None], rho: float) -> list[torch.Tensor]:
    """``rho g / |g|`` with the norm over all gradients; nothing where they are not finite (an overflow in fp16)."""
    import torch

    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))  # type: ignore[arg-type]
    scale = torch.where(norm.isfinite(), rho / (norm + 1e-12), 0.0)
    steps = torch._foreach_mul(gradients, scale)  # type: ignore[call-overload]
    return [step.nan_to_num_(0.0, 0.0, 0.0) for step in steps]

"""Limits on gradients before an update: of their global norm, of each value, or of each unit by its weights' size.

Adaptive clipping (AGC; Brock et al., arXiv 2102.06171, equation 3) scales the gradient of a unit (a row of a weight, a
filter of a convolution, a whole vector) down to ``factor max(|W_i|, 1e-3) / |G_i|`` where it is larger, in all layers
but the last linear one. As in timm; all of it stays on the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from jobs.optimizers.optimizer import Optimizer

_EPS = 1e-3
"""Norm that a unit's weights count as having at least, so that zeros can learn."""


def clip(network: nn.Module, spec: Optimizer) -> None:
    """Clip the gradients of ``network`` as ``spec`` says; they are unscaled, and those of all ranks."""
    if spec.clip_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), spec.clip_norm)
    elif spec.clip_value is not None:
        nn.utils.clip_grad_value_(network.parameters(), spec.clip_value)
    elif spec.clip_adaptive is not None:
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        head = {id(parameter) for module in linear[-1:] for parameter in module.parameters()}
        adaptive([parameter for parameter in network.parameters() if id(parameter) not in head], spec.clip_adaptive)


@torch.no_grad()
def adaptive(parameters: list[nn.Parameter], factor: float) -> None:
    """Scale each unit's gradient down to ``factor`` times the norm of its weights, in place."""
    for parameter in parameters:
        if parameter.grad is None:
            continue
        most = _unit_norms(parameter).clamp_(min=_EPS).mul_(factor)
        norm = _unit_norms(parameter.grad)
        clipped = parameter.grad * (most / norm.clamp(min=1e-6))
        parameter.grad.copy_(torch.where(norm < most, parameter.grad, clipped))


def _unit_norms(values: torch.Tensor) -> torch.Tensor:
    axes = tuple(range(1, values.ndim)) if values.ndim > 1 else None
    norms: torch.Tensor = torch.linalg.vector_norm(values, dim=axes, keepdim=True)
    return norms

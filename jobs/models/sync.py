"""Synchronised BatchNorm: the mean and variance of a part are those of all workers' images together.

It makes BatchNorm's groups larger where a worker has few images, at the price of two collectives a layer each way. On a
GPU it is torch's own kernel; on a CPU, where torch has none, the same arithmetic.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from jobs.models.logits import wide

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronise(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with every BatchNorm synchronised over the default process group; names and tensors stay.

    Raises:
        ValueError: on a CPU, of a BatchNorm that does more than normalise (timm's with an activation).
    """
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(network)
        return converted
    for module in network.modules():
        if type(module) in PLAIN:
            module.__class__ = Synchronised
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"model.sync_batchnorm: a {type(module).__name__} cannot be synchronised on a CPU; leave it out, "
                "or train on GPUs"
            )
    return network


class Synchronised(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the inputs ``(N, C, ...)`` of all ranks, each of which has as many."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise, 16-bit inputs in float32; in eval mode as BatchNorm does."""
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        count = input.numel() // input.shape[1] * dist.get_world_size()
        values = wide(input)
        mean = _Sum.apply(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / count
        self._follow(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        normal: torch.Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        normal = normal if self.weight is None else normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class _Sum(torch.autograd.Function):
    """The sum over ranks; so is its gradient's."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total

"""A small network with the layers that matter to an optimizer, and gradients that depend on a number alone."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from jobs.randomness import generator, seed_global


def small(dtype: torch.dtype = torch.float32) -> nn.Module:
    """A full, a depthwise and a pointwise convolution, BatchNorm and a classifier, in NHWC."""
    seed_global("small")
    network = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 6, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5)),
    )
    return network.to(dtype).to(memory_format=torch.channels_last)


def backward(network: nn.Module, update: int) -> None:
    """Leave the gradients of one update's batch."""
    network.zero_grad()
    dtype = next(network.parameters()).dtype
    x = torch.randn(8, 3, 8, 8, generator=generator("update", update), dtype=dtype)
    cross_entropy(network(x.to(memory_format=torch.channels_last)), torch.arange(8) % 5).backward()

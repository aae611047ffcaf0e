"""Residual networks (He et al., arXiv 1512.03385): the network that ``jobs.models.resnet`` specifies.

Two families, which the depth distinguishes. For ImageNet (section 4.1, table 1): a 7x7 stem at stride 2, a max-pool and
four stages of basic or bottleneck blocks. For small images (section 4.2): a 3x3 stem and three stages of n basic
blocks, which makes 6n + 2 layers.

Variants (arXiv 1812.01187, section 4.1), each with what the one before it has:

- A: the paper's. A bottleneck strides in its first 1x1 convolution, which so ignores three quarters of its input.
- B: it strides in its 3x3 convolution (torchvision's "V1.5"). Basic blocks are the same in A and B.
- C: three 3x3 convolutions instead of the 7x7 one, the first at stride 2; of half, half and all of the channels.
- D: a projection that strides averages over 2x2 first, and its 1x1 convolution does not stride.

Where we depart: the small family's shortcuts are projections wherever the shape changes (the paper's option B, as in
its ImageNet networks; its CIFAR networks use option A, a strided identity padded with zeros, which has 2,752 parameters
fewer in ResNet-20). Its stem is a 3x3 convolution in every variant.
Modules are registered in torchvision's and timm's order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import nn

from jobs.models.drop_path import DropPath

Variant = Literal["A", "B", "C", "D"]

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks in each stage of the ImageNet family; the small family has (depth - 2) / 6 in each of three."""

_BOTTLENECK_FROM = 50


class ResidualNetwork(nn.Module):
    """Stem, stages of residual blocks, global average pooling, linear classifier.

    Args:
        depth: number of layers with weights, shortcuts not counted.
        width: channels of the first stage; every later stage doubles them. Bottlenecks put out four times as many.
        classes: number of logits.
        channels: channels of the images.
        variant: see above.
        zero_gamma: whether the last BatchNorm of every branch starts with gamma 0 instead of 1 (arXiv 1706.02677,
            section 5.1), so that a fresh block is ``relu(shortcut(x))``.
        drop_path: probability of dropping the last branch; that of branch i of L, from 0, is ``drop_path i / (L - 1)``.
    """

    layer_order = (r"stem\.", r"blocks\.(\d+)\.")

    def __init__(
        self,
        depth: int,
        width: int,
        classes: int,
        channels: int,
        variant: Variant = "B",
        zero_gamma: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        block = Bottleneck if depth in BLOCKS and depth >= _BOTTLENECK_FROM else Basic
        self.stem = _imagenet_stem(channels, width, variant) if depth in BLOCKS else _small_stem(channels, width)
        counts = BLOCKS.get(depth, ((depth - 2) // 6,) * 3)
        stages: list[_Block] = []
        before = width
        for stage, blocks in enumerate(counts):
            inner = width * 2**stage
            for position in range(blocks):
                stride = 2 if stage > 0 and position == 0 else 1
                rate = drop_path * len(stages) / (sum(counts) - 1)
                stages.append(block(before, inner, stride, variant, rate))
                before = inner * block.expansion
        self.blocks = nn.Sequential(*stages)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(before, classes)
        self.apply(_initialise)
        if zero_gamma:
            for each in stages:
                nn.init.zeros_(each.last_norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images ``(N, channels, H, W)`` to logits ``(N, classes)``."""
        logits: torch.Tensor = self.classifier(self.pool(self.blocks(self.stem(x))))
        return logits


class _Block(nn.Module, ABC):
    """``relu(drop(branch(x)) + shortcut(x))``; the branch ends in a BatchNorm without ReLU."""

    expansion = 1

    def __init__(self, before: int, inner: int, stride: int, variant: Variant, rate: float) -> None:
        super().__init__()
        self.branch = self._branch(before, inner, stride, variant)
        self.drop = DropPath(rate) if rate > 0 else nn.Identity()
        self.shortcut = _shortcut(before, inner * self.expansion, stride, variant)
        self.relu = nn.ReLU(inplace=True)

    @abstractmethod
    def _branch(self, before: int, inner: int, stride: int, variant: Variant) -> nn.Sequential:
        """The convolutions beside the shortcut."""

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The BatchNorm that the branch ends in."""
        norm = self.branch[-1]
        assert isinstance(norm, nn.BatchNorm2d)
        return norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, before, H, W)`` to ``(N, inner x expansion, ceil(H / stride), ceil(W / stride))``."""
        y: torch.Tensor = self.drop(self.branch(x))
        y += self.shortcut(x)
        out: torch.Tensor = self.relu(y)
        return out


class Basic(_Block):
    """Two 3x3 convolutions; the first one strides."""

    def _branch(self, before: int, inner: int, stride: int, variant: Variant) -> nn.Sequential:
        return nn.Sequential(*_convolution(before, inner, 3, stride), *_convolution(inner, inner, 3, relu=False))


class Bottleneck(_Block):
    """1x1 to narrow, 3x3, 1x1 to widen fourfold."""

    expansion = 4

    def _branch(self, before: int, inner: int, stride: int, variant: Variant) -> nn.Sequential:
        first, middle = (stride, 1) if variant == "A" else (1, stride)
        return nn.Sequential(
            *_convolution(before, inner, 1, first),
            *_convolution(inner, inner, 3, middle),
            *_convolution(inner, inner * self.expansion, 1, relu=False),
        )


def _shortcut(before: int, after: int, stride: int, variant: Variant) -> nn.Module:
    """Identity where the shape stays, else a 1x1 projection (option B of the paper)."""
    if stride == 1 and before == after:
        return nn.Identity()
    if variant == "D" and stride > 1:  # ceil_mode, since a strided convolution rounds odd sizes up as well
        average = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        return nn.Sequential(average, *_convolution(before, after, 1, relu=False))
    return nn.Sequential(*_convolution(before, after, 1, stride, relu=False))


def _imagenet_stem(channels: int, width: int, variant: Variant) -> nn.Sequential:
    """To a quarter of the resolution."""
    pool = nn.MaxPool2d(3, 2, 1)
    if variant in ("A", "B"):
        return nn.Sequential(*_convolution(channels, width, 7, 2), pool)
    half = (width + 1) // 2
    first, second = _convolution(channels, half, 3, 2), _convolution(half, half, 3)
    return nn.Sequential(*first, *second, *_convolution(half, width, 3), pool)


def _small_stem(channels: int, width: int) -> nn.Sequential:
    """At full resolution."""
    return nn.Sequential(*_convolution(channels, width, 3))


def _convolution(before: int, after: int, kernel: int, stride: int = 1, relu: bool = True) -> list[nn.Module]:
    """Convolution that keeps the size up to its stride, BatchNorm and, by default, ReLU."""
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after), *([nn.ReLU(inplace=True)] if relu else [])]


def _initialise(module: nn.Module) -> None:
    """Convolutions as in arXiv 1502.01852, by fan-out; BatchNorm (gamma 1) and the classifier keep torch's own."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

"""Residual networks (He et al., arXiv 1512.03385): the network that ``jobs.models.resnet`` specifies.

Two families, told apart by the depth. For ImageNet (section 4.1, table 1): a 7x7 stem at stride 2, a max-pool and
four stages of basic or bottleneck blocks. For small images (section 4.2): a 3x3 stem and three stages of n basic
blocks, which makes 6n + 2 layers.

Where we depart: the small family's shortcuts are projections wherever the shape changes (the paper's option B, as in
its ImageNet networks; its CIFAR networks use option A, a strided identity padded with zeros, which has 2,752 parameters
fewer in ResNet-20). The bottleneck strides in its 3x3 convolution, not in the first 1x1 ("variant B", torchvision's
"V1.5").
Modules are registered in torchvision's order.
"""

from __future__ import annotations

import torch
from torch import nn

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
    """

    def __init__(self, depth: int, width: int, classes: int, channels: int) -> None:
        super().__init__()
        block = Bottleneck if depth in BLOCKS and depth >= _BOTTLENECK_FROM else Basic
        self.stem = _imagenet_stem(channels, width) if depth in BLOCKS else _small_stem(channels, width)
        stages: list[nn.Module] = []
        before = width
        for stage, blocks in enumerate(BLOCKS.get(depth, ((depth - 2) // 6,) * 3)):
            inner = width * 2**stage
            for position in range(blocks):
                stages.append(block(before, inner, stride=2 if stage > 0 and position == 0 else 1))
                before = inner * block.expansion
        self.blocks = nn.Sequential(*stages)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(before, classes)
        self.apply(_initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images ``(N, channels, H, W)`` to logits ``(N, classes)``."""
        logits: torch.Tensor = self.classifier(self.pool(self.blocks(self.stem(x))))
        return logits


class _Block(nn.Module):
    """``relu(branch(x) + shortcut(x))``; the branch ends in a BatchNorm without ReLU."""

    expansion = 1

    def __init__(self, before: int, inner: int, stride: int) -> None:
        super().__init__()
        self.branch = self._branch(before, inner, stride)
        self.shortcut = _shortcut(before, inner * self.expansion, stride)
        self.relu = nn.ReLU(inplace=True)

    def _branch(self, before: int, inner: int, stride: int) -> nn.Sequential:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, before, H, W)`` to ``(N, inner x expansion, ceil(H / stride), ceil(W / stride))``."""
        y: torch.Tensor = self.branch(x)
        y += self.shortcut(x)
        out: torch.Tensor = self.relu(y)
        return out


class Basic(_Block):
    """Two 3x3 convolutions; the first one strides."""

    def _branch(self, before: int, inner: int, stride: int) -> nn.Sequential:
        return nn.Sequential(*_convolution(before, inner, 3, stride), *_convolution(inner, inner, 3, relu=False))


class Bottleneck(_Block):
    """1x1 to narrow, 3x3, 1x1 to widen fourfold."""

    expansion = 4

    def _branch(self, before: int, inner: int, stride: int) -> nn.Sequential:
        first, middle = _bottleneck_strides(stride)
        return nn.Sequential(
            *_convolution(before, inner, 1, first),
            *_convolution(inner, inner, 3, middle),
            *_convolution(inner, inner * self.expansion, 1, relu=False),
        )


def _bottleneck_strides(stride: int) -> tuple[int, int]:
    """Strides of a bottleneck's first 1x1 and of its 3x3 convolution."""
    return 1, stride


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    """Identity where the shape stays, else a 1x1 projection (option B of the paper)."""
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(*_convolution(before, after, 1, stride, relu=False))


def _imagenet_stem(channels: int, width: int) -> nn.Sequential:
    """To a quarter of the resolution."""
    return nn.Sequential(*_convolution(channels, width, 7, 2), nn.MaxPool2d(3, 2, 1))


def _small_stem(channels: int, width: int) -> nn.Sequential:
    """At full resolution."""
    return nn.Sequential(*_convolution(channels, width, 3))


def _convolution(before: int, after: int, kernel: int, stride: int = 1, relu: bool = True) -> list[nn.Module]:
    """Convolution that keeps the size up to its stride, BatchNorm and, unless told otherwise, ReLU."""
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after), *([nn.ReLU(inplace=True)] if relu else [])]


def _initialise(module: nn.Module) -> None:
    """Convolutions as in arXiv 1502.01852, by fan-out; BatchNorm (gamma 1) and the classifier keep torch's own."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

"""Zero gamma (Goyal et al., arXiv 1706.02677, section 5.1) in the networks of torchvision and timm.

The last normalisation of a residual branch starts with gamma 0, so that a fresh block is ``act(shortcut(x))``; that of
the projection never does. The class of a block says which one it is. Pre-activation blocks are not listed: the
branch ends in a convolution there, and gamma 0 before its ReLU would stop every gradient for good.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

_LAST_NORM = {
    "torchvision.models.resnet.BasicBlock": "bn2",
    "torchvision.models.resnet.Bottleneck": "bn3",
    "torchvision.models.regnet.ResBottleneckBlock": "f.c.1",
    "timm.models.resnet.BasicBlock": "bn2",
    "timm.models.resnet.Bottleneck": "bn3",
    "timm.models.res2net.Bottle2neck": "bn3",
    "timm.models.resnest.ResNestBottleneck": "bn3",
    "timm.models.resnetv2.Bottleneck": "norm3",
    "timm.models.sknet.SelectiveKernelBasic": "conv2.bn",
    "timm.models.sknet.SelectiveKernelBottleneck": "conv3.bn",
    "timm.models.regnet.Bottleneck": "conv3.bn",
    "timm.models.tresnet.BasicBlock": "conv2.bn",
    "timm.models.tresnet.Bottleneck": "conv3.bn",
    "timm.models.cspnet.BottleneckBlock": "conv3.bn",
    "timm.models.cspnet.DarkBlock": "conv2.bn",
    "timm.models.cspnet.EdgeBlock": "conv2.bn",
    "timm.models.byobnet.BasicBlock": "conv2_kxk.bn",
    "timm.models.byobnet.BottleneckBlock": "conv3_1x1.bn",
    "timm.models.byobnet.DarkBlock": "conv2_kxk.bn",
    "timm.models.byobnet.EdgeBlock": "conv2_1x1.bn",
    "timm.models.byobnet.SelfAttnBlock": "conv3_1x1.bn",
}
"""Class of a residual block -> its branch's last normalisation."""

_SHORTCUT = {"timm.models.regnet": "downsample", "timm.models.byobnet": "shortcut"}
"""Where blocks may lack a shortcut: the attribute that is None then."""


def set_last_gammas(network: nn.Module, value: float) -> int:
    """Fill gamma of the last normalisation of every known residual branch; how many there are."""
    norms = list(last_norms(network))
    for norm in norms:
        nn.init.constant_(norm.weight, value)  # type: ignore[arg-type]
    return len(norms)


def last_norms(network: nn.Module) -> Iterator[nn.Module]:
    """The last normalisation, one with a gamma, of every residual branch of a known class."""
    for block in network.modules():
        module, name = type(block).__module__, type(block).__name__
        where = _LAST_NORM.get(f"{module}.{name}")
        if where is None or (module in _SHORTCUT and getattr(block, _SHORTCUT[module]) is None):
            continue
        norm = block.get_submodule(where)
        if getattr(norm, "weight", None) is not None:
            yield norm

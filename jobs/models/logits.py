"""What a network answers: logits in float32 or wider, whatever the arithmetic of its body.

16-bit logits tie: of bfloat16's 8 significant bits so few are left that up to a few per cent of images have several
largest logits, and which class is predicted is decided by its number. So under autocast a linear head is computed in
float32, and so is the mean over an image and its mirror image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def logits(network: nn.Module, x: torch.Tensor, classes: int, flip: bool = False) -> torch.Tensor:
    """Logits ``(N, classes)`` of images ``(N, C, H, W)``, float32 or wider.

    Args:
        network: in eval mode.
        x: its input.
        classes: K; linear layers with so many outputs count as heads.
        flip: average with those of the mirror images.
    """
    heads = [module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features == classes]
    handles = [head.register_forward_hook(_again_wide) for head in heads if torch.is_autocast_enabled(x.device.type)]
    try:
        return averaged(network, x, flip)
    finally:
        for handle in handles:
            handle.remove()


def averaged(network: nn.Module, x: torch.Tensor, flip: bool) -> torch.Tensor:
    """What the network computes of images ``(N, C, H, W)``; with ``flip`` the mean with that of their mirror images."""
    answer = wide(network(x))
    return (answer + wide(network(x.flip(3)))) / 2 if flip else answer


def wide(values: torch.Tensor) -> torch.Tensor:
    """The values, 16-bit ones as float32."""
    return values.to(torch.float32) if values.dtype.itemsize < 4 else values


def _again_wide(head: nn.Linear, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    with torch.autocast(output.device.type, enabled=False):
        return nn.functional.linear(wide(inputs[0]), head.weight, head.bias)

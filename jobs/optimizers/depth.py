"""How deep in a network each parameter is: 0 at the images, the largest number at the classes.

Layer-wise learning rates need it (BEiT, arXiv 2106.08254, whose code timm's ``param_groups_layer_decay`` follows; the
idea is ULMFiT's, arXiv 1801.06146). timm's networks know their blocks; ours say them in ``layer_order``, or are an
``nn.Sequential``; torchvision's are listed here. What belongs to no block counts as the head, as in timm.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn

_FEATURES = (r"$", r"features\.(\d+)\.")
_ORDERS = {
    "torchvision.models.resnet.ResNet": (r"conv1\.|bn1\.", r"layer(\d+)\.(\d+)\."),
    "torchvision.models.vision_transformer.VisionTransformer": (
        r"conv_proj\.|class_token|encoder\.pos_embedding",
        r"encoder\.layers\.encoder_layer_(\d+)\.",
    ),
    "torchvision.models.convnext.ConvNeXt": _FEATURES,
    "torchvision.models.efficientnet.EfficientNet": _FEATURES,
    "torchvision.models.mobilenetv2.MobileNetV2": _FEATURES,
    "torchvision.models.mobilenetv3.MobileNetV3": _FEATURES,
    "torchvision.models.swin_transformer.SwinTransformer": _FEATURES,
}
"""Class of a network -> patterns of the names of its stem's parameters, and of its blocks', whose numbers order them;
a network's ``layer_order`` is the same."""


def depths(network: nn.Module) -> dict[str, int]:
    """The depth of every parameter by its name, from 0 without a gap.

    Raises:
        ValueError: the order of this network's layers is not known.
    """
    names = [name for name, _ in network.named_parameters()]
    cls = f"{type(network).__module__}.{type(network).__name__}"
    matcher: Any = getattr(network, "group_matcher", None)
    if order := getattr(network, "layer_order", None) or _ORDERS.get(cls):
        places = {name: _place(name, *order) for name in names}
    elif type(network) is nn.Sequential:
        places = _in_turn(network)
    elif callable(matcher):
        from timm.models import group_parameters

        return dict(group_parameters(network, matcher(coarse=False), reverse=True))
    else:
        known = ", ".join(name.rpartition(".")[2] for name in _ORDERS)
        raise ValueError(
            f"optimizer.layer_decay: the order of the layers of a {cls} is not known; leave layer_decay out, or take a "
            f"network of timm, kind resnet or cnn, or one of torchvision's {known}"
        )
    ranks = {place: depth for depth, place in enumerate(sorted(set(places.values())))}
    return {name: ranks[place] for name, place in places.items()}


def _place(name: str, stem: str, block: str) -> tuple[int, ...]:
    if re.match(stem, name):
        return (0,)
    found = re.match(block, name)
    return (1, *map(int, found.groups())) if found else (2,)


def _in_turn(network: nn.Sequential) -> dict[str, tuple[int, ...]]:
    """One depth for each layer with a matrix or kernels; a normalisation goes with the layer before it."""
    places: dict[str, tuple[int, ...]] = {}
    depth = -1
    for child, module in network.named_children():
        parameters = dict(module.named_parameters())
        depth += any(parameter.ndim > 1 for parameter in parameters.values())
        places.update({f"{child}.{name}": (max(depth, 0),) for name in parameters})
    return places

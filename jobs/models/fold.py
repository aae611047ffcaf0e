"""BatchNorm folded into the convolution or linear layer before it, for a frozen network.

In evaluation BatchNorm is ``y = gamma (x - mean) / sqrt(variance + epsilon) + beta``, an affine map a channel, so
``x = W u + b`` followed by it is ``y = s W u + s (b - mean) + beta`` with ``s = gamma / sqrt(variance + epsilon)``.
torch.fx only finds the pairs: the network keeps its own code, in which the folded BatchNorm is an identity.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Iterator

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""By exact class: what derives from them may do more (standardise its weights, pad, activate)."""


def fold(network: nn.Module) -> nn.Module:
    """A copy of ``network`` in eval mode, without gradients, with BatchNorm folded wherever that is exact.

    A pair is folded when each of the two is called once, has no hooks, and the layer's output goes to the BatchNorm
    alone. A network that torch.fx cannot trace is copied unfolded.

    Args:
        network: any classifier called with images alone; it is left as it is. A linear layer's BatchNorm is taken to
            normalise ``(N, C)``.
    """
    copied = copy.deepcopy(network).eval()
    for layer, norm, name in list(_pairs(copied)):
        _into(layer, norm)
        parent, _, child = name.rpartition(".")
        setattr(copied.get_submodule(parent), child, _rest(norm))
    return copied.eval().requires_grad_(False)  # the identities are new


def _into(layer: nn.Module, norm: _BatchNorm) -> None:
    """Give ``layer`` the weights of itself and the BatchNorm after it, computed in float64."""
    assert isinstance(layer, _LAYERS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance, weight = norm.running_mean.double(), norm.running_var.double(), layer.weight
    scale = (variance + norm.eps).rsqrt()
    scale = scale if norm.weight is None else norm.weight.double() * scale
    bias = -mean if layer.bias is None else layer.bias.double() - mean
    bias = bias * scale if norm.bias is None else bias * scale + norm.bias.double()
    folded = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
    layer.weight = nn.Parameter(folded.to(weight.dtype), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)


def _pairs(network: nn.Module) -> Iterator[tuple[nn.Module, _BatchNorm, str]]:
    """Layers, their BatchNorms and the names of these."""
    graph = _graph(network)
    if graph is None:
        return
    modules = dict(network.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        names = (str(before.target), str(node.target))
        layer, norm = (modules[name] for name in names)
        alone = all(calls[name] == 1 and name not in read and not _hooked(modules[name]) for name in names)
        if alone and type(layer) in _LAYERS and _foldable(norm) and layer.weight.shape[0] == norm.num_features:
            yield layer, norm, names[1]


def _hooked(module: nn.Module) -> bool:
    """Whether something else acts on its calls (torch's older weight_norm computes the weights in a hook)."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


def _foldable(module: nn.Module) -> bool:
    """Whether it is a BatchNorm that uses running statistics."""
    known = type(module) in _NORMS or _activates(module)
    return known and getattr(module, "running_mean", None) is not None


def _activates(module: nn.Module) -> bool:
    """Whether it is timm's BatchNorm with an activation; not by ``isinstance``, since timm takes seconds to import."""
    return type(module).__module__.startswith("timm.layers.") and type(module).__name__ == "BatchNormAct2d"


def _rest(norm: nn.Module) -> nn.Module:
    """What a BatchNorm does besides normalising."""
    return nn.Sequential(*norm.children()) if _activates(norm) else nn.Identity()


class _Tracer(fx.Tracer):
    """Enters no layer and no normalisation, of whatever library."""

    def is_leaf_module(
        self, module: nn.Module, name: str
    ) -> bool:  # the base class calls it m and module_qualified_name
        return isinstance(module, (*_LAYERS, _BatchNorm)) or super().is_leaf_module(module, name)


def _graph(network: nn.Module) -> fx.Graph | None:
    """The calls of ``network(x)``, further arguments at their defaults; None where they depend on the images."""
    parameters = list(inspect.signature(network.forward).parameters.values())
    defaults = {each.name: each.default for each in parameters[1:] if each.default is not each.empty}
    try:
        with torch.no_grad():
            return _Tracer().trace(network, concrete_args=defaults)
    except Exception:  # whatever code of others raises when its images are symbols
        return None

"""Which parameters an optimizer moves, which of them decay, and at what share of the learning rate.

No bias decay (Jia et al., arXiv 1807.11205, as in arXiv 1812.01187, section 3.1): weight decay on the weights of
convolutions and linear layers alone, none on biases, gamma and beta.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatch
from typing import Any

import torch
from torch import nn

from jobs.optimizers.depth import depths

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""BatchNorm and InstanceNorm of every dimension, and the others of torch."""


def groups(
    network: nn.Module, weight_decay: float, no_decay: Collection[str] = (), layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer: what decays, then what does not; both in the network's order.

    In ``no_decay``

    - ``bias`` exempts what is called so in any layer but a normalisation, the classifier's included: ``bias``,
      attention's ``in_proj_bias`` and ``bias_k``, a recurrent layer's ``bias_ih_l0``;
    - ``norm`` all that normalisation layers have, gamma and beta;
    - ``scale`` the gains that stand alone: LayerScale's and ConvNeXt's gamma, ``layer_scale``, ``logit_scale``, PReLU;
    - ``embedding`` class and other tokens, position embeddings, tables of relative positions;
    - ``timm`` what timm's ``param_groups_weight_decay`` exempts: all of at most one dimension, all called ``*.bias``,
      and what the network's ``no_weight_decay()`` names.

    With ``layer_decay`` there are such groups for every depth (:func:`jobs.optimizers.depth.depths`), the deepest last;
    a group's ``lr_scale`` is ``layer_decay ** (deepest - depth)``, so the head's is 1 (arXiv 2106.08254, as in timm).

    Every trainable parameter is in exactly one group, once, however many modules share it (it is exempt if any of them
    exempts it); frozen ones are in none. A group without parameters is left out.

    Raises:
        ValueError: there is a ``layer_decay``, and the order of the network's layers is not known.
    """
    exempt = {
        id(parameter)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if _part(module, name) in no_decay
    }
    if "timm" in no_decay:
        listed: Any = getattr(network, "no_weight_decay", tuple)
        named = listed()
        exempt |= {
            id(parameter)
            for name, parameter in network.named_parameters()
            if parameter.ndim <= 1 or name.endswith(".bias") or any(fnmatch(name, pattern) for pattern in named)
        }
    trainable = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    where = {name: 0 for name, _ in trainable} if layer_decay is None else depths(network)
    deepest = max(where.values(), default=0)
    made = []
    for depth in range(deepest + 1):
        here = [parameter for name, parameter in trainable if where[name] == depth]
        scale = {} if layer_decay is None else {"lr_scale": layer_decay ** (deepest - depth)}
        made += [
            {"params": [p for p in here if id(p) not in exempt], "weight_decay": weight_decay, **scale},
            {"params": [p for p in here if id(p) in exempt], "weight_decay": 0.0, **scale},
        ]
    return [group for group in made if group["params"]]


_NAMES = {
    "bias": r"(.*_)?bias(_(ih|hh)_l\d+(_reverse)?|_[kv])?",
    "scale": r"gamma(_\d+)?|(layer|logit)_scale(_\d+)?",
    "embedding": r"(\w*_)?tokens?|(\w*_)?pos(ition)?(al)?_?emb(ed(ding)?)?(_\w+)?|rel(ative)?_pos\w*|attention_biases",
}


def _part(module: nn.Module, name: str) -> str | None:
    if _is_norm(module):
        return "norm"
    if isinstance(module, nn.PReLU):
        return "scale"
    return next((part for part, pattern in _NAMES.items() if re.fullmatch(pattern, name)), None)


def _is_norm(module: nn.Module) -> bool:
    """Most normalisations of timm are subclasses of torch's; the others are recognised by module and name."""
    return isinstance(module, _NORMS) or any(
        cls.__module__.startswith("timm.layers.") and re.search("Norm|Abn", cls.__name__) for cls in type(module).mro()
    )


def fused(network: nn.Module) -> bool:
    """Whether torch's fused SGD, Adam and AdamW take all of the trainable parameters.

    They are one pass over memory, and under loss scaling they leave an overflowed update out on the device, where the
    others make the host wait for the answer. On a CPU they read gradients in the order of memory: a gradient must have
    its parameter's strides, which autograd sees to.
    """
    return all(
        parameter.device.type in ("cpu", "cuda") and parameter.dtype in (torch.float32, torch.float64)
        for parameter in network.parameters()
        if parameter.requires_grad
    )


def arrange(optimizer: torch.optim.Optimizer) -> None:
    """Give a state that was loaded the layout and the place that it has where the optimizer made it itself.

    What has its parameter's shape gets its strides. A scalar goes where the count of updates is: torch leaves that on
    the CPU, but takes NAdam's product of momenta to the GPU, where every update would then wait to read it.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if not isinstance(value, torch.Tensor):
                continue
            if value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            elif not value.ndim and isinstance(count := values.get("step"), torch.Tensor):
                values[name] = value.to(count.device)


def resume(optimizer: torch.optim.Optimizer, state: dict[str, Any], keep_settings: bool) -> None:
    """Load what ``state_dict`` gave; with ``keep_settings`` the groups' settings stay this optimizer's own."""
    groups = (
        [{n: group[n] for n in group if n != "params"} for group in optimizer.param_groups] if keep_settings else []
    )
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, groups, strict=False):  # none, or all of them
        group.update(settings)
    arrange(optimizer)

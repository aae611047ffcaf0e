"""Fine-tuning: a network starts from weights that were trained on other classes (Yosinski et al., arXiv 1411.1792).

The *head* is every tensor whose shape follows from the number of classes; it stays fresh. The *body* is all else, and
takes the weights over bit for bit. Kornblith et al. (arXiv 1805.08974) compare what such starts bring.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from jobs.data.source import Source
from jobs.models.meta import on_meta
from jobs.models.model import Model
from jobs.models.pretrained import materialize
from jobs.models.stored import differences, read, restore
from jobs.models.torchvision import AUXILIARY
from jobs.models.weights import StoredWeights

if TYPE_CHECKING:
    from jobs.spec import JobSpec

IMAGES = ("size", "channels", "mean", "std")
"""Fields of the data that follow from the weights where the spec leaves them out."""
_COUNTER = "num_batches_tracked"
"""What BatchNorm counts; weights from before torch 0.4.1 lack it, and only averaging without momentum reads it."""


def resolve(spec: JobSpec) -> JobSpec:
    """The spec with its pretrained weights, if any, in a folder, and with the images' size, channels, mean and std as
    the weights have them, wherever ``data`` leaves them out. Already resolved, it stays what it is.

    Raises:
        ValueError: the weights cannot be had, or are not of this network; the message has the cure.
    """
    source = spec.model.pretrained
    if source is None:
        return spec
    folder = materialize(source, spec.model)
    try:
        meta, tensors = read(folder)
    except FileNotFoundError as error:
        raise ValueError(
            f"model.pretrained: there is no model in {folder}; give a run's model folder, or a file of weights as "
            "{kind: file, path: ...}"
        ) from error
    data = _fitted(spec.data, meta["preprocessing"])
    if data.channels is not None:
        network = on_meta(spec.model, 2, data.channels)
        _check(network, head(network, spec.model, 2, data.channels), spec.model, meta, tensors, str(source))
    model = spec.model.model_copy(update={"pretrained": StoredWeights(path=folder)})
    return spec.model_copy(update={"model": model, "data": data})


def head(network: nn.Module, model: Model, classes: int, channels: int) -> frozenset[str]:
    """Names of the tensors of ``network`` that follow from the number of classes.

    Args:
        network: built by ``model`` for these ``classes`` and ``channels``.
    """
    other = on_meta(model, classes + 1, channels).state_dict()
    return frozenset(name for name, tensor in network.state_dict().items() if tensor.shape != other[name].shape)


def fill(network: nn.Module, fresh: frozenset[str], model: Model, folder: str) -> str:
    """Give the body of ``network`` the weights in ``folder``.

    Args:
        network: freshly built; changed in place.
        fresh: names of its head, as :func:`head` tells them.
        model: its spec.
        folder: see :func:`resolve`.

    Returns:
        The SHA-256 of the weights.

    Raises:
        ValueError: they are not of this network; the tensors that differ are named.
    """
    meta, tensors = read(folder)
    _check(network, fresh, model, meta, tensors, folder)
    body = [name for name in network.state_dict() if name not in fresh and name in tensors]
    restore(network, {name: tensors[name] for name in body}, strict=False)
    return str(meta["sha256"])


def freeze(network: nn.Module, fresh: frozenset[str], frozen: bool) -> None:
    """Let the gradients of the body be computed, or not."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in fresh or not frozen)


def hold_statistics(network: nn.Module) -> None:
    """Put every module that keeps running statistics (BatchNorm, ...) in eval mode, and leave the others as they are:
    dropout stays on, and nothing of a frozen body moves."""
    for module in network.modules():
        if any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False)):
            module.eval()


def _fitted(data: Source, known: Mapping[str, Any]) -> Source:
    """The data spec with what the weights say of images, where it says nothing itself."""
    if data.channels is not None and known.get("channels") not in (None, data.channels):
        raise ValueError(
            f"model.pretrained: the weights take images of {known['channels']} channels, but data.channels is "
            f"{data.channels}; set data.channels to {known['channels']} (images are converted), or leave it out"
        )
    changes = {
        name: tuple(value) if isinstance(value, list) else value
        for name in IMAGES
        if getattr(data, name) is None and (value := known.get(name)) is not None
    }
    return data.model_copy(update=changes)


def _check(
    network: nn.Module,
    fresh: frozenset[str],
    model: Model,
    meta: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    where: str,
) -> None:
    wanted = {name: tensor for name, tensor in network.state_dict().items() if name not in fresh}
    found = {
        name: tensor
        for name, tensor in tensors.items()
        if name not in fresh and not name.startswith(AUXILIARY if name not in wanted else ())
    }
    wanted = {name: tensor for name, tensor in wanted.items() if name in found or not name.endswith(_COUNTER)}
    wrong = differences(wanted, found)
    theirs, variant = meta["model"].get("variant"), getattr(model, "variant", None)
    if not wrong and theirs is not None and variant is not None and theirs != variant:
        wrong = f"they are of variant {theirs}, and model.variant is {variant}, which computes otherwise"
    if wrong:
        kept = {name: value for name, value in meta["model"].items() if value not in (None, {}, False, 0)}
        own = {name: value for name, value in model.architecture().model_dump(mode="json").items() if name in kept}
        cure = f"They were kept for {kept}; set model to that, or take other weights"
        if own == kept:
            first = min(tensors, default="nothing")
            cure = f"The first of their tensors by name is {first}; set model to their network, or take other weights"
        kind: str = model.kind  # type: ignore[attr-defined]
        raise ValueError(
            f"model.pretrained: the weights of {where} do not fit the body of model {kind}: {wrong}. {cure}"
        )

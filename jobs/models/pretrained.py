"""Weights from elsewhere (torchvision, timm, a file), kept in a folder of the cache: whole networks, which
``jobs.models.load`` reads, and weights to start from, which ``jobs.models.finetune`` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.data.cache import cached, key
from jobs.models.stored import restore
from jobs.models.torchvision import AUXILIARY, renamed, takes_half
from jobs.models.weights import FileWeights, LibraryWeights, RunWeights, StoredWeights
from jobs.quiet import quiet
from jobs.urls import is_url, local

if TYPE_CHECKING:
    import torch
    from torch import nn

    from jobs.models.model import Model

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET_CLASSES = 1000


def materialize(weights: LibraryWeights | FileWeights | StoredWeights | RunWeights, model: Model) -> str:
    """The folder of weights that a network can start from; fetched or converted where it is missing.

    Raises:
        ValueError: the weights are not available here; the message has the cure.
    """
    match weights:
        case StoredWeights():
            return weights.path
        case FileWeights():
            from jobs.data.remote import here

            path = str(here(weights.path, "model.pretrained.path")) if is_url(weights.path) else local(weights.path)
            return _keep(model, None, path, {"size": weights.size, "mean": weights.mean, "std": weights.std})
        case LibraryWeights():
            return _keep(model, weights.weights, None, {})
        case RunWeights():
            raise ValueError(weights.unresolved)


def keep_pretrained(
    model: Model,
    weights: str | None,
    file: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    classes: int,
) -> str:
    """The folder of a pretrained network, made where it is missing.

    Args:
        model: spec of the network; its ``kind`` is ``torchvision`` or ``timm``.
        weights: torchvision's name of the weights; timm's are part of the network's name.
        file: weights in a local file instead (.safetensors, or .pth read with ``weights_only``); their class names are
            unknown, so the classes are named ``class 0``, ``class 1``, ...
        mean, std: of pixels in 0 .. 1; None takes the library's, ImageNet's for a file.
        classes: number of classes of the network.

    Raises:
        ValueError: the weights are not available here, or do not fit that network with that many classes.
    """
    from jobs.models.stored import save

    folder = _folder(model, weights, file, mean, std, classes)
    if os.path.exists(f"{folder}/model.json"):
        return folder
    tensors, known = (_read(file, model), _moments(model)) if file else _fetch(model, weights)
    network = model.build(classes, 3)
    _fill(network, tensors, file or f"{model.kind} {getattr(model, 'name', '')}", classes)  # type: ignore[attr-defined]
    preprocessing = {
        "size": known.get("size", 224),
        "channels": 3,
        "mean": list(mean or known.get("mean", IMAGENET_MEAN)),
        "std": list(std or known.get("std", IMAGENET_STD)),
    }
    names = known.get("classes") or [f"class {number}" for number in range(classes)]
    save(folder, network, model.model_dump(mode="json"), names, preprocessing)
    return folder


def _keep(model: Model, weights: str | None, file: str | None, images: Mapping[str, Any]) -> str:
    """The cache's folder of weights, whatever classes they were trained on.

    Its ``model.json`` holds what is known of them; what is not (of a file for kind resnet or cnn) is null.

    Args:
        model: spec of the network.
        weights: torchvision's name of the weights; timm's are part of the network's name.
        file: weights in a local file instead.
        images: ``size``, ``mean`` and ``std``, where they differ from the library's.
    """
    from jobs.models.stored import write

    model = model.architecture()
    folder = _folder(model, weights, file, dict(images))
    if os.path.exists(f"{folder}/model.json"):
        return folder
    tensors, known = (_read(file, model), _config(model)) if file else _fetch(model, weights)
    given = {name: value for name, value in images.items() if value is not None}
    preprocessing = {name: {**known, **given}.get(name) for name in ("size", "channels", "mean", "std")}
    if preprocessing["mean"] is not None:
        preprocessing["channels"] = len(preprocessing["mean"])
    spec = model.model_dump(mode="json")
    write(folder, tensors, {"model": spec, "classes": known.get("classes", []), "preprocessing": preprocessing})
    return folder


def _folder(model: Model, weights: str | None, file: str | None, *more: object) -> str:
    """Where in the cache that is kept; a file is identified by its path, size and time."""
    if file is not None and not os.path.isfile(file):
        raise ValueError(f"there are no weights at {file}; give a .safetensors or .pth file")
    stamp = (os.path.abspath(file), os.stat(file).st_size, os.stat(file).st_mtime_ns) if file else weights
    return str(cached("pretrained", key(model.model_dump_json(), stamp, *more), ""))


def _read(file: str, model: Model) -> Mapping[str, torch.Tensor]:
    """The tensors of a file, by the names that the network gives them."""
    from jobs.models.files import tensors_of

    tensors = tensors_of(file, model)
    return _by_its_names(tensors, model)


def _by_its_names(tensors: Mapping[str, torch.Tensor], model: Model) -> Mapping[str, torch.Tensor]:
    if model.kind != "torchvision":  # type: ignore[attr-defined]
        return tensors
    return {renamed(name): tensor for name, tensor in tensors.items()}


def _moments(model: Model) -> dict[str, Any]:
    """Mean and standard deviation that a library's network was trained with, where they are not ImageNet's."""
    half = model.kind == "torchvision" and takes_half(model.name) and not model.kwargs.get("transform_input")  # type: ignore[attr-defined]
    return {"mean": [0.5] * 3, "std": [0.5] * 3} if half else {}


def _fetch(model: Model, weights: str | None) -> tuple[Mapping[str, torch.Tensor], dict[str, Any]]:
    """The library's own weights, from its cache or the network, and what it says of them."""
    name, kind = model.name, model.kind  # type: ignore[attr-defined]
    known = _config(model, weights)
    try:
        return _by_its_names(_torchvision(name, weights) if kind == "torchvision" else _timm(model), model), known
    except (OSError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"the weights of {kind} {name} cannot be fetched: {first}. Without a network, bring the file: fetch "
            f"{known.get('url', 'it')} where there is one, and give its path (model.pretrained: {{kind: file, path: "
            "...}; of a teacher: file)"
        ) from error


def _torchvision(name: str, weights: str | None) -> Mapping[str, torch.Tensor]:
    tensors: Mapping[str, torch.Tensor] = _entry(name, weights).get_state_dict(progress=False, check_hash=True)
    return tensors


def _entry(name: str, weights: str | None) -> Any:
    """torchvision's entry of the weights of that name, by default its newest."""
    from torchvision import models

    try:
        every = models.get_model_weights(name).__members__
    except ValueError:
        every = {}
    if (weights or "DEFAULT") not in every:
        raise ValueError(
            f"torchvision has no weights {weights or 'DEFAULT'!r} for {name}; it has {', '.join(every) or 'none'}"
        )
    return every[weights or "DEFAULT"]


def _timm(model: Model) -> Mapping[str, torch.Tensor]:
    import timm

    with quiet("huggingface_hub", "timm"):
        network: nn.Module = timm.create_model(model.name, pretrained=True, **model.kwargs)  # type: ignore[attr-defined]
    return network.state_dict()


def _config(model: Model, weights: str | None = None) -> dict[str, Any]:
    """What a library says of the weights of a network: ``size``, ``channels``, ``mean``, ``std``, ``classes``, ``url``;
    empty where it has none, as for our own kinds."""
    name, kind = getattr(model, "name", ""), model.kind  # type: ignore[attr-defined]
    if kind == "torchvision":
        entry = _entry(name, weights)
        transforms = entry.transforms()
        size, mean, std, url = transforms.crop_size[0], transforms.mean, transforms.std, entry.url
        classes = entry.meta["categories"]
    elif kind == "timm" and (found := _published(name)) is not None:
        size, mean, std = found.input_size[1], found.mean, found.std
        hub = f"https://huggingface.co/{found.hf_hub_id}/resolve/main/model.safetensors"
        url, classes = hub if found.hf_hub_id else found.url, [f"class {k}" for k in range(found.num_classes)]
    else:
        return {}
    known = {"size": size, "channels": len(mean), "mean": list(mean), "std": list(std), **_moments(model)}
    return {**known, "classes": _names(classes), "url": url}


def _published(name: str) -> Any:
    """timm's configuration of the weights of that name; None where it has published none."""
    import timm

    found = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return found if found is not None and (found.hf_hub_id or found.url) else None


def _names(categories: Sequence[str]) -> list[str]:
    """WordNet ids for ImageNet's thousand classes, which is what its folders are called; else the names as given."""
    if len(categories) != _IMAGENET_CLASSES:
        return list(categories)
    from timm.data import ImageNetInfo

    return list(ImageNetInfo().label_names())


def _fill(network: nn.Module, tensors: Mapping[str, torch.Tensor], where: str, classes: int) -> None:
    wanted = network.state_dict()
    mine = {name: tensor for name, tensor in tensors.items() if not name.startswith(AUXILIARY)}
    wrong = [name for name in wanted if name not in mine or mine[name].shape != wanted[name].shape]
    wrong += [name for name in mine if name not in wanted]
    if wrong:
        raise ValueError(
            f"the weights of {where} are not of that network with {classes} classes: {len(wrong)} tensors differ, the "
            f"first is {wrong[0]}; give a network that was trained on these classes"
        )
    restore(network, mine)

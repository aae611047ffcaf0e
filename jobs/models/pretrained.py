"""Pretrained networks of torchvision and timm, kept in a folder of the cache that ``jobs.models.load`` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.data.cache import cached, key

if TYPE_CHECKING:
    import torch
    from torch import nn

    from jobs.models.model import Model

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET_CLASSES = 1000


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
        weights: torchvision's name of the weights; timm's stand in the name of the network.
        file: weights in a local file instead (.safetensors, or .pth read with ``weights_only``); their class names are
            unknown, so the classes are called ``class 0``, ``class 1``, ...
        mean, std: of pixels in 0 .. 1; None takes the library's, ImageNet's for a file.
        classes: number of classes that the network must tell apart.

    Raises:
        ValueError: the weights cannot be had here, or are not of that network with that many classes.
    """
    from jobs.models.stored import save

    if file is not None and not os.path.isfile(file):
        raise ValueError(f"there are no weights at {file}; give a .safetensors or .pth file")
    stamp = (os.path.abspath(file), os.stat(file).st_size, os.stat(file).st_mtime_ns) if file else weights
    folder = str(cached("pretrained", key(model.model_dump_json(), stamp, mean, std, classes), ""))
    if os.path.exists(f"{folder}/model.json"):
        return folder
    tensors, known = _read(file) if file else _fetch(model, weights)
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


def _read(file: str) -> tuple[Mapping[str, torch.Tensor], dict[str, Any]]:
    import torch
    from safetensors.torch import load_file

    try:
        if file.endswith(".safetensors"):
            return load_file(file), {}
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever is wrong with a file that comes from elsewhere
        raise ValueError(f"{file} holds no weights that can be read safely: {error}") from error
    for name in ("state_dict", "model"):  # as training scripts wrap them
        tensors = tensors.get(name, tensors) if isinstance(tensors, dict) else tensors
    return tensors, {}


def _fetch(model: Model, weights: str | None) -> tuple[Mapping[str, torch.Tensor], dict[str, Any]]:
    """The library's own weights, from its cache or the network."""
    name, kind = model.name, model.kind  # type: ignore[attr-defined]
    try:
        return _torchvision(name, weights or "DEFAULT") if kind == "torchvision" else _timm(name)
    except (OSError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"the weights of {kind} {name} cannot be fetched: {first}. Without a network, bring the file: fetch it "
            "where there is one and give its path as file"
        ) from error


def _torchvision(name: str, weights: str) -> tuple[Mapping[str, torch.Tensor], dict[str, Any]]:
    from torchvision import models

    every = models.get_model_weights(name)
    if weights not in every.__members__:
        raise ValueError(f"torchvision has no weights {weights!r} for {name}; it has {', '.join(every.__members__)}")
    entry = every[weights]
    transforms = entry.transforms()
    known = {
        "mean": list(transforms.mean),
        "std": list(transforms.std),
        "size": transforms.crop_size[0],
        "classes": _names(entry.meta["categories"]),
    }
    return entry.get_state_dict(progress=False, check_hash=True), known


def _timm(name: str) -> tuple[Mapping[str, torch.Tensor], dict[str, Any]]:
    import timm

    network = timm.create_model(name, pretrained=True)
    known = network.pretrained_cfg
    count = known["num_classes"]
    return network.state_dict(), {
        "mean": list(known["mean"]),
        "std": list(known["std"]),
        "size": known["input_size"][1],
        "classes": _names([f"class {number}" for number in range(count)]),
    }


def _names(categories: Sequence[str]) -> list[str]:
    """WordNet ids for ImageNet's thousand classes, which is what its folders are called; else the names as given."""
    if len(categories) != _IMAGENET_CLASSES:
        return list(categories)
    from timm.data import ImageNetInfo

    return list(ImageNetInfo().label_names())


def _fill(network: nn.Module, tensors: Mapping[str, torch.Tensor], where: str, classes: int) -> None:
    wanted = network.state_dict()
    mine = {name: tensor for name, tensor in tensors.items() if not name.startswith("AuxLogits.")}
    wrong = [name for name in wanted if name not in mine or mine[name].shape != wanted[name].shape]
    wrong += [name for name in mine if name not in wanted]
    if wrong:
        raise ValueError(
            f"the weights of {where} are not of that network with {classes} classes: {len(wrong)} tensors differ, the "
            f"first is {wrong[0]}; give a network that was trained on these classes"
        )
    network.load_state_dict(mine)

"""What a network starts from: trained weights where they can be had, else fresh ones."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.init.machine import Machine

SMALL, LARGE = "resnet18", "resnet50"
"""torchvision's networks that are tried where none is named: without a GPU, and with one."""
NONE = "none"
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        model: the network's fields, where weights decide it.
        pretrained: ``model.pretrained``; None starts afresh.
        size: images' height and width in pixels that the weights were trained with, if that is known.
        channels: the same for their channels.
        why: the reason.
        told: what a person should know of it, in one line; may be empty.
        advice: lines of the recipe on how to start from weights after all.
    """

    model: dict[str, Any] = field(default_factory=dict)
    pretrained: dict[str, Any] | None = None
    size: int | None = None
    channels: int | None = None
    why: str = ""
    told: str = ""
    advice: tuple[str, ...] = ()


def find(asked: str | None, machine: Machine) -> Start:
    """The start that is asked for.

    Args:
        asked: a network of torchvision or timm, a file of weights (``NETWORK=FILE`` where it is not of the network
            that is tried by default), a run, or none; None tries the library's weights, and does without if it must.
        machine: what it is to run on.

    Raises:
        ValueError: what was asked for cannot be had.
    """
    name = LARGE if machine.gpus else SMALL
    if asked == NONE:
        return Start()
    if asked is None:
        try:
            return _library(name)
        except ValueError as error:
            return Start(told=_first(error), advice=_advice(name, str(error)))
    network, equals, file = asked.partition("=")
    if equals or asked.endswith(_SUFFIXES):
        path = Path(file if equals else asked).expanduser().absolute()
        return _known(
            _network(network if equals else name), {"kind": "file", "path": str(path)}, f"starts from {path.name}"
        )
    try:
        _network(asked)
    except ValueError as error:
        return _run(asked, error)
    return _library(asked)


def _library(name: str) -> Start:
    return _known(_network(name), {"kind": "library"}, f"starts from the weights of {name}, trained on ImageNet")


def _network(name: str) -> dict[str, Any]:
    """The network of that name, in torchvision or timm."""
    from torchvision import models

    if name in models.list_models(module=models):
        return {"kind": "torchvision", "name": name}
    import timm

    if not timm.is_model(name):
        raise ValueError(
            f"--pretrained {name}: neither torchvision nor timm has such a network, and it is no file "
            f"({', '.join(_SUFFIXES)})"
        )
    return {"kind": "timm", "name": name}


def _run(name: str, error: ValueError) -> Start:
    from pydantic import TypeAdapter

    from jobs.models import ModelSpec
    from jobs.models.stored import read
    from orchestrator.models import lookup

    try:
        folder = str(lookup.find(name).model)
    except ValueError as other:
        raise ValueError(f"{error}, nor a run: {other}") from None
    meta, _ = read(folder)
    spec: Any = TypeAdapter(ModelSpec).validate_python(meta["model"])
    model = {"kind": spec.kind, **spec.architecture().model_dump(mode="json", exclude_defaults=True)}
    return _told(model, {"kind": "run", "run": name}, f"starts from run {name}", meta["preprocessing"])


def _known(model: dict[str, Any], pretrained: dict[str, Any], why: str) -> Start:
    """With what the weights say of images; fetches them if need be."""
    from pydantic import TypeAdapter

    from jobs.models import ModelSpec
    from jobs.models.pretrained import materialize
    from jobs.models.stored import read

    spec: Any = TypeAdapter(ModelSpec).validate_python({**model, "pretrained": pretrained})
    with contextlib.redirect_stderr(io.StringIO()):  # of the download; the error says what fails
        folder = materialize(spec.pretrained, spec)
    return _told(model, pretrained, why, read(folder)[0]["preprocessing"])


def _told(model: dict[str, Any], pretrained: dict[str, Any], why: str, images: dict[str, Any]) -> Start:
    return Start(model, pretrained, images.get("size"), images.get("channels"), f"{why}; the head first, for an epoch")


def _first(error: ValueError) -> str:
    reason = str(error).partition(". Without a network")[0]
    return f"{reason}, so the recipe starts from scratch (with a file: --pretrained FILE)"


def _advice(name: str, error: str) -> tuple[str, ...]:
    place = re.search(r"https://\S+", error)
    return (
        "Trained weights usually help where images are few; they could not be fetched. Where there is a network, fetch "
        f"{place[0] if place else f'those of {name}'} and run: orchestrator init FOLDER --pretrained {name}=FILE",
        "which sets all that goes with it. By hand, in place of the lines above (data.size and data.channels go):",
        f"model: {{kind: torchvision, name: {name}, pretrained: {{kind: file, path: FILE}}, freeze_epochs: 1}}",
        "optimizer: a tenth of the lr, and layer_decay: 0.8",
    )

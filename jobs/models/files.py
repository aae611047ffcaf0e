"""Files of weights as training scripts write them: bare, wrapped in a dictionary, with a prefix before every name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jobs.models.meta import on_meta

if TYPE_CHECKING:
    import torch

    from jobs.models.model import Model

log = logging.getLogger(__name__)

WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema")
"""Keys under which scripts keep the network's tensors, the first that is there counts."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DDP (and timm's averages), Lightning and torch.compile put before every name."""


def tensors_of(file: str, model: Model) -> Mapping[str, torch.Tensor]:
    """The tensors of a .safetensors file, or of a .pth file, which is read with ``weights_only``.

    Prefixes that all names share are taken off (:data:`PREFIXES`, in any order) where the network has none such.

    Args:
        file: its path.
        model: spec of the network that the tensors are meant for.

    Raises:
        ValueError: it cannot be read safely, or holds no weights; the keys that are there are named.
    """
    found: Any = _content(file)
    there = ", ".join(map(str, list(found)[:8])) if isinstance(found, dict) else f"a {type(found).__name__}"
    wrapped = [name for name in WRAPPERS if isinstance(found, dict) and isinstance(found.get(name), dict)]
    found = found[wrapped[0]] if wrapped else found
    if not isinstance(found, dict) or not found or not all(map(_is_tensor, found.values())):
        raise ValueError(
            f"{file} holds no weights: a mapping of names to tensors was expected, or one in {', '.join(WRAPPERS)}; "
            f"it has {there}"
        )
    found = {name: tensor for name, tensor in found.items() if name != "n_averaged"}  # torch's AveragedModel counts
    if (bare := unprefixed(found)).keys() == found.keys():
        return bare
    names = list(on_meta(model, 2, 3).state_dict())
    bare = unprefixed(found, [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in names)])
    first = next(iter(found))
    log.warning("%s calls its tensors %s, ...; they are read as %s, ...", file, first, next(iter(bare)))
    return bare


def unprefixed(tensors: Mapping[str, torch.Tensor], own: Iterable[str] = ()) -> dict[str, torch.Tensor]:
    """The tensors without the prefixes that all their names share, but for the network's ``own``."""
    left = dict(tensors)
    usable = [prefix for prefix in PREFIXES if prefix not in own]
    while shared := next((prefix for prefix in usable if all(name.startswith(prefix) for name in left)), None):
        left = {name.removeprefix(shared): tensor for name, tensor in left.items()}
    return left


def _content(file: str) -> Any:
    import torch
    from safetensors.torch import load_file

    try:
        if file.endswith(".safetensors"):
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever is wrong with a file that comes from elsewhere
        raise ValueError(f"{file} holds no weights that can be read safely: {_why(file, error)}") from error


def _why(file: str, error: Exception) -> str:
    """The first line of a library's error, or what the file seems to be."""
    with open(file, "rb") as stream:
        start = stream.read(64).lstrip()
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself; fetch that with git lfs pull"
    if start[:1] == b"<":
        return "it is a web page (HTML or XML); download the file itself"
    if "weights_only" in str(error).lower() or "Unsupported global" in str(error):
        return (
            "it needs Python objects beside tensors, such as a whole pickled network, which could run any code; keep "
            "network.state_dict() in it instead"
        )
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)

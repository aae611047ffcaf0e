"""A trained network in a folder: ``model.safetensors`` (weights and buffers) and ``model.json`` (all else). No pickle.

The JSON is written last and holds the checksums of the tensors and of itself, so half a model, or a damaged one, is
refused. Any fsspec URL serves as the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import nn

FORMAT = 1
_TENSORS, _META = FILES = "model.safetensors", "model.json"
_CHECKSUM = "json_sha256"
_BATCH = 128


@dataclass(frozen=True)
class LoadedModel:
    """A trained classifier and what it needs to know of its images.

    Attributes:
        network: in eval mode, on the CPU; ``network.to(device)`` moves it, and ``predict`` follows.
        classes: class names, in the order of the logits.
        size: height and width in pixels of the images it was scored on.
        channels: 1 or 3.
        mean, std: per channel, of pixels scaled to 0 .. 1.
        meta: all of ``model.json``.
        crop_ratio: share of the shorter side that the central square of an image takes.
        exif_orientation: whether images are turned as their EXIF says.
        flip: whether the logits of an image and its mirror image are averaged.
    """

    network: nn.Module
    classes: tuple[str, ...]
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    meta: Mapping[str, Any]
    crop_ratio: float = 1.0
    flip: bool = False
    exif_orientation: bool = True

    def predict(self, images: Sequence[Image] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities, float32 ``(N, K)``.

        Args:
            images: PIL images of any size and mode, or uint8 ``(N, H, W, channels)``; they are converted, cropped and
                resized to ``size`` as the images of the validation split were.

        Raises:
            ValueError: an array of another dtype or shape, or an image whose pixels have no defined range.
        """
        import numpy as np
        import torch

        device = next(self.network.parameters()).device
        probabilities = [np.empty((0, len(self.classes)), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                batch = torch.from_numpy(self._fitted(images[start : start + _BATCH])).to(device)
                probabilities.append(self.logits(batch).softmax(1).to(torch.float32).cpu().numpy())
        return np.concatenate(probabilities)

    def logits(self, images: torch.Tensor, channels_last: bool = False) -> torch.Tensor:
        """Logits ``(N, K)`` of images that have their size already.

        Args:
            images: uint8 ``(N, size, size, channels)``, on the network's device.
            channels_last: whether the network is fed in layout NHWC.
        """
        from jobs.models.logits import logits

        x = self._normalised(images, next(self.network.parameters()).dtype)
        x = x if channels_last else x.contiguous()
        return logits(self.network, x, len(self.classes), self.flip)

    def _fitted(self, images: Sequence[Image] | NDArray[np.uint8]) -> NDArray[np.uint8]:
        import numpy as np

        from jobs.data.decode import fit

        if isinstance(images, np.ndarray):
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != self.channels:
                raise ValueError(
                    f"images must be uint8 of shape (N, height, width, {self.channels}), "
                    f"got {images.dtype} of shape {images.shape}"
                )
            return np.stack([fit(image, self.size, self.crop_ratio) for image in images])
        return np.stack([self.fitted(image) for image in images])

    def fitted(self, image: Image) -> NDArray[np.uint8]:
        """An image of any size and mode as uint8 ``(size, size, channels)``, turned, converted, cropped and resized.

        Raises:
            ValueError: its pixels have no defined range.
        """
        from jobs.data.decode import fit, pixels, upright

        turned = upright(image) if self.exif_orientation else image
        return fit(pixels(turned, self.channels), self.size, self.crop_ratio)

    def _normalised(self, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Float ``(N, C, H, W)``, a view of layout NHWC, by the very arithmetic of the training loop."""
        shift, std = (images.new_tensor(each, dtype=dtype) * 255 for each in (self.mean, self.std))
        rows = images.flatten(2).to(dtype)  # whole rows, for an innermost dimension of 3 is slow on a CPU
        rows.sub_(shift.repeat(images.shape[2])).mul_((1 / std).repeat(images.shape[2]))
        return rows.view(images.shape).permute(0, 3, 1, 2)


def save(
    path: str | PathLike[str],
    model: nn.Module,
    spec_json: Mapping[str, Any],
    classes: Sequence[str],
    preprocessing: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Write a network to the folder ``path``; SHA-256 of the file of its tensors.

    Args:
        path: folder or fsspec URL; made where it is missing.
        model: the bare network (not under DDP, not compiled), as trained.
        spec_json: the ``model`` part of the job spec, as JSON.
        classes: class names, in the order of the logits.
        preprocessing: ``size``, ``channels``, ``mean`` and ``std``, and whatever else describes it.
        extra: further JSON to keep (metrics, run id), under its own names.

    Raises:
        ValueError: preprocessing or spec lacks something that ``load`` needs, or extra uses one of its names.
    """
    missing = [name for name in ("size", "channels", "mean", "std") if name not in preprocessing]
    if missing or "kind" not in spec_json:
        raise ValueError(f"a stored model needs {', '.join(missing) or 'the kind of its spec'}, which is not given")
    meta = {"model": dict(spec_json), "classes": list(classes), "preprocessing": dict(preprocessing)}
    clash = sorted({"format", "sha256", _CHECKSUM, *meta} & (extra or {}).keys())
    if clash:
        raise ValueError(f"extra may not use the names {', '.join(clash)}: the format has them")
    return write(path, model.state_dict(), {**meta, **(extra or {})})


def write(path: str | PathLike[str], tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> str:
    """Write tensors and what is known of them to the folder ``path``, which :func:`read` reads; SHA-256 of the tensors'
    file.
    """
    import fsspec
    from safetensors.torch import save as serialise

    from jobs.checkpoint import snapshot
    from jobs.urls import make_folder

    data = serialise(snapshot(dict(tensors)))
    told = {"format": FORMAT, "sha256": hashlib.sha256(data).hexdigest(), **meta}
    text = json.dumps({**told, _CHECKSUM: _checksum(told)}, indent=2, allow_nan=False)
    fs, folder = fsspec.core.url_to_fs(path)
    make_folder(fs, folder)
    fs.pipe_file(f"{folder}/{_TENSORS}", data)
    fs.pipe_file(f"{folder}/{_META}", text.encode())
    return str(told["sha256"])


def _checksum(meta: Mapping[str, Any]) -> str:
    """SHA-256 of all of ``model.json`` but itself, however it is laid out."""
    rest = {name: value for name, value in meta.items() if name != _CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def load(path: str | PathLike[str]) -> LoadedModel:
    """The network in the folder ``path``, rebuilt from its spec, in eval mode on the CPU.

    Raises:
        FileNotFoundError: no model there.
        ValueError: the folder is damaged, of another format, or its tensors are not those of the network it specifies.
    """
    import torch
    from pydantic import TypeAdapter

    from jobs.models.model import Model
    from jobs.models.spec import ModelSpec

    meta, tensors = read(path)
    spec: Model = TypeAdapter(ModelSpec).validate_json(json.dumps(meta["model"]))
    told = meta["preprocessing"]
    with torch.random.fork_rng(devices=[]):
        network = spec.build(len(meta["classes"]), told["channels"])
    if wrong := differences(network.state_dict(), tensors):
        raise ValueError(f"{path}/{_TENSORS} does not fit the network that {_META} specifies: {wrong}")
    if any(tensor.dtype == torch.float64 for tensor in tensors.values()):
        network.to(torch.float64)
    restore(network, tensors)
    return LoadedModel(
        network.eval(),
        tuple(meta["classes"]),
        told["size"],
        told["channels"],
        tuple(told["mean"]),
        tuple(told["std"]),
        meta,
        told.get("crop_ratio", 1.0),
        told.get("flip", False),
        told.get("exif_orientation", True),
    )


def restore(network: nn.Module, tensors: Mapping[str, torch.Tensor], strict: bool = True) -> None:
    """``load_state_dict`` for tensors that came without the versions which torch keeps beside them.

    They are taken for tensors of the network as it is: some networks (torchvision's MNASNet) refuse what has no
    version, and others take it for one from before there were any.
    """
    versioned: Any = OrderedDict(tensors)
    versioned._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    network.load_state_dict(versioned, strict=strict)


def read(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What is known of the tensors in the folder ``path``, and they themselves, on the CPU.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the folder is damaged, or of another format.
    """
    import fsspec
    from safetensors.torch import load as parse

    fs, folder = fsspec.core.url_to_fs(path)
    try:
        meta = json.loads(fs.cat_file(f"{folder}/{_META}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}/{_META} is damaged ({error}); copy it again") from None
    if not isinstance(meta, dict):
        raise ValueError(f"{path}/{_META} is damaged: it holds no mapping; copy it again")
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path}/{_META} has format {meta.get('format')!r}, this version reads format {FORMAT}")
    if _CHECKSUM in meta and meta[_CHECKSUM] != _checksum(meta):
        raise ValueError(f"{path}/{_META} does not match its checksum: it was changed or damaged; copy it again")
    data = fs.cat_file(f"{folder}/{_TENSORS}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != meta["sha256"]:
        raise ValueError(
            f"{path}/{_TENSORS} has sha256 {digest}, but {_META} says {meta['sha256']}: it is damaged; copy it again"
        )
    return meta, parse(data)


def differences(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> str:
    """How tensors differ in name and shape from those that are wanted; empty where they do not."""
    listed = [f"{name} is missing" for name in wanted if name not in found]
    listed += [f"{name} is one too many" for name in found if name not in wanted]
    listed += [
        f"{name} has shape {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return "; ".join(listed[:8]) + more

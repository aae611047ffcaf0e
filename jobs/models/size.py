"""How big a network is, found on torch's meta device: shapes are computed, nothing is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from jobs.models.meta import on_meta
from jobs.models.model import Model
from jobs.steps import UnfitError

if TYPE_CHECKING:
    from jobs.data.sets import Data
    from jobs.spec import JobSpec

_DTYPES = {2: torch.bfloat16, 4: torch.float32, 8: torch.float64}


@dataclass(frozen=True)
class Size:
    """The size of a network on images of one size.

    Attributes:
        parameters: trainable and other parameters (numbers, not bytes).
        buffers: numbers in buffers (BatchNorm's statistics).
        activation_bytes: what autograd keeps for the backward pass of one batch, the input included.
        flops_per_image: floating-point operations of the forward pass on one image; a multiplication and an addition
            count as two, so this is twice the multiply-accumulates that papers often call FLOPs (ResNet-50: 8.2e9 here,
            4.1 GFLOPs there).
    """

    parameters: int
    buffers: int
    activation_bytes: int
    flops_per_image: int


def measure(model: Model, classes: int, channels: int, size: int, batch: int, dtype_bytes: int) -> Size:
    """The size of ``model`` in training.

    Args:
        model: spec of the network.
        classes: number of classes.
        channels: channels of the images.
        size: height and width of the images in pixels.
        batch: images a forward pass.
        dtype_bytes: bytes of an activation: 2 (autocast: weights stay fp32, and their 16-bit copies count as
            activations), 4 or 8.

    Raises:
        ValueError: the network cannot be built, cannot take such images, or puts out something else than logits.
    """
    network = on_meta(model, classes, channels).to(_DTYPES[dtype_bytes])
    x = torch.empty(batch, channels, size, size, device="meta", dtype=_DTYPES[dtype_bytes])
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage  # held, so that no later storage gets its address

    flops = FlopCounterMode(display=False)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda _: torch.empty(0)), flops:
            logits = network(x)
    except Exception as error:  # whatever a library's network raises on a size that does not fit it
        images = f"{size}x{size} images of {channels} channels"
        raise ValueError(f"model {_named(model)} cannot take {images}: {error}") from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != (batch, classes):
        raise ValueError(f"model {_named(model)} must put out logits of shape {(batch, classes)}, got {shape}")
    tensors = [*network.parameters(), *network.buffers()]
    own = {tensor.untyped_storage()._cdata for tensor in tensors}
    parameters = sum(parameter.numel() for parameter in network.parameters())
    kept = sum(storage.nbytes() for address, storage in saved.items() if address not in own)
    return Size(
        parameters=parameters,
        buffers=sum(buffer.numel() for buffer in network.buffers()),
        activation_bytes=kept + (2 * parameters if dtype_bytes == 2 else 0),
        flops_per_image=flops.get_total_flops() // batch,
    )


def check_one_image(spec: JobSpec, data: Data) -> None:
    """Refuse a job whose parts are of one image if its network cannot be trained on one.

    Raises:
        jobs.steps.UnfitError: that it is so, and what helps.
    """
    network = on_meta(spec.model, len(data.classes), data.channels)
    one, two = (torch.empty(count, data.channels, data.size, data.size, device="meta") for count in (1, 2))
    try:
        network(one)
    except ValueError as error:
        network(two)  # which says what else is wrong, if anything is
        workers, accumulation = spec.resources.most, spec.accumulation
        raise UnfitError(
            f"each of the {workers} workers gets 1 image at a time (batch_size {spec.batch_size} / {workers} workers x "
            f"{accumulation} accumulation), and BatchNorm needs 2 or more where maps are 1x1, as in model "
            f"{_named(spec.model)} at {data.size}x{data.size} pixels; raise batch_size to {2 * spec.parts}, lower "
            "resources.workers or accumulation, or take larger images"
        ) from error


def _named(model: Model) -> str:
    """What a spec says of the network, without what it leaves as it is."""
    said = model.model_dump(mode="json", exclude_defaults=True)
    return ", ".join([model.kind, *(f"{name} {value}" for name, value in said.items() if name != "kind")])  # type: ignore[attr-defined]

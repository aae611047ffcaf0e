"""The recipe for what was found on the machine that is there, with a reason for every line that was decided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from jobs.allowed import memory
from jobs.base import assign
from jobs.data.expected import prepared_side
from jobs.data.prepared import Short
from jobs.data.sets import Arrays, Data
from jobs.spec import JobSpec
from jobs.words import byte_size, duration
from orchestrator.execution.speed import images_per_s
from orchestrator.init.facts import Survey
from orchestrator.init.findings import UNEVEN, draws_evenly
from orchestrator.init.machine import Machine
from orchestrator.init.start import Start
from orchestrator.init.survey import originals
from orchestrator.prepare import PROCESS_BYTES

SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 160, 192, 224)
"""Image sizes to choose from where images are not all of one."""
_SMALL = 64
"""Largest size for the networks of small images."""
_UPDATES, _MINUTES, _BATCH = (2_000, 10_000), (20, 60), (128, 256)
"""On a CPU and on a GPU: updates that a run is to have, minutes that it may take, and the largest batch a worker."""
_FINE_BATCH = 32
"""The largest batch of fine-tuning on a CPU, where images are large."""
_EPOCHS, _FINE_EPOCHS = (10, 100), (5, 20)
_STEPS_AN_EPOCH = 8
_WORKERS, _IMAGES_A_WORKER, _PIXELS_A_CPU = 8, 32, 16 * 32**2
"""Without a GPU: workers at most, images that each of them is to have of a batch, and pixels that keep a CPU busy."""
_MEMORY_SHARE = 0.6
_FLOPS_A_CPU = 20e9
_SLOW_S = 10.0
_PROBE_S = 2.0
_PROBE_BYTES = 2**28


@dataclass(frozen=True)
class Recipe:
    """A job and why it is so.

    Attributes:
        data: the spec's fields that are worth to be written, in order.
        why: reasons by dotted name.
        rate: images a second that one worker trains here.
        how: how that is known.
        minutes: what the job takes, about.
        worker: bytes of memory that a worker takes on a CPU, about.
    """

    data: dict[str, Any]
    why: dict[str, str]
    rate: float
    how: str
    minutes: float
    worker: int

    @property
    def spec(self) -> JobSpec:
        """The job."""
        return JobSpec.model_validate(self.data)


def choose(name: str, found: Survey, machine: Machine, start: Start) -> Recipe:
    """The recipe.

    Args:
        name: of the job.
        found: the images.
        machine: where it is to run.
        start: the weights to start from.
    """
    gpu = bool(machine.gpus)
    data: dict[str, Any] = {"name": name}
    why: dict[str, str] = {}
    data["data"], size, channels = _images(found, gpu, start, why)
    data["model"] = _network(found, size, gpu, start, why)
    data["augment"] = _augment(found, size, why)
    cut = data["augment"][0]["kind"] == "random_resized_crop" and found.source.kind != "shards"  # no disk may hold them
    if cut and (side := prepared_side(size, found.size)):
        data["data"]["prepare"] = "auto"
        why["data.prepare"] = f"images of {found.size} pixels take long to decode: they are made smaller once"
        room = found.parts["train"] * channels * Short(side).shapes(found.look.sizes).prod(1).mean()
        if machine.lacks_disk(room):
            data["data"]["prepare_as"] = "jpeg"
            why["data.prepare_as"] = f"as pixels they would take {byte_size(int(room))} of the disk"
    data["batch"] = [{"kind": "label_smoothing", "epsilon": 0.1}]
    why["batch.label_smoothing"] = "keeps the network from being too sure"
    train = found.parts["train"]
    fine = start.pretrained is not None
    most = _BATCH[gpu] if gpu or not fine else _FINE_BATCH
    batch = _batch(train, len(machine.gpus) or 1, most)
    workers, cpus = _workers(batch, size, machine)
    lr = _rounded((0.01 if fine else 0.1) * batch / 128)
    data["optimizer"] = {"kind": "sgd", "lr": lr, "weight_decay": 5e-4, "no_decay": ["bias", "norm"]}
    if deep := fine and _known_depths(data["model"], found, channels):
        data["optimizer"]["layer_decay"] = 0.8
    data["schedule"] = {"warmup_epochs": 1, "decay": {"kind": "cosine"}}
    data |= {"epochs": 2, "batch_size": batch, "precision": "auto"}
    data["resources"] = {"workers": workers, "cpus_per_worker": cpus}
    batch, activations, weights = _fit(data, found, (size, channels), machine)
    data["batch_size"] = batch
    data["optimizer"]["lr"] = lr = _rounded((0.01 if fine else 0.1) * batch / 128)
    rate, how = _speed(data, found, (size, channels), machine)
    epochs, minutes = _epochs(train, batch, rate * workers, gpu, fine)
    data["epochs"] = epochs
    warmup = max(1, min(5, epochs // 20))
    data["schedule"]["warmup_epochs"] = warmup
    updates = train // batch * epochs
    base = "0.01 for a batch of 128, so that the weights keep what they know" if fine else "0.1 for a batch of 128"
    slower = "; early layers learn slower (layer_decay)" if deep else ""
    why["optimizer"] = f"lr: {base}, scaled{slower}; biases and norms do not decay"
    why["schedule"] = f"{warmup} epoch{'s' if warmup > 1 else ''} of warmup, then cosine to 0"
    why["epochs"] = f"{updates:,} updates, about {duration(60 * minutes)} here: {rate * workers:,.0f} images/s, {how}"
    each = train // batch
    few = f"at least {_STEPS_AN_EPOCH} updates" if each >= _STEPS_AN_EPOCH else f"{each} update{'s' * (each > 1)}"
    limit = f"{few} an epoch" if batch < most * (len(machine.gpus) or 1) else "the usual one"
    why["batch_size"] = f"{limit}; {byte_size(activations)} of activations a worker"
    why["precision"] = "bf16 where the processor has it, else fp32"
    idle = "; batches are too small to use all" if workers * cpus < machine.cpus and not gpu else ""
    why["resources"] = f"{machine}{idle}"
    return Recipe(data, why, rate, how, minutes, PROCESS_BYTES + activations + weights)


def _known_depths(model: dict[str, Any], found: Survey, channels: int) -> bool:
    """Whether it is known which layers of the network are early ones."""
    from jobs.models import Model, ModelSpec
    from jobs.models.meta import on_meta
    from jobs.optimizers.depth import depths

    spec: Model = TypeAdapter(ModelSpec).validate_python(model)
    try:
        depths(on_meta(spec, len(found.classes), channels))
    except ValueError:
        return False
    return True


def _images(found: Survey, gpu: bool, start: Start, why: dict[str, str]) -> tuple[dict[str, Any], int, int]:
    """The data's fields, and the images' size in pixels and channels."""
    data: dict[str, Any] = found.source.model_dump(mode="json", exclude_defaults=True)
    data = {"kind": found.source.kind, **data}
    for shared in ("test_fraction", "val_fraction"):
        data.pop(shared, None)
    median = f"the median of the shorter sides is {found.size}"
    channels = 3 if found.colour else 1
    if start.pretrained is not None and start.size and start.channels:
        size, channels = start.size, start.channels
        why["data"] = f"size ({size}), channels, mean and std are those of the weights"
    else:
        most = 224 if gpu else _SMALL
        if found.one_size and found.size <= most:
            size, why["data.size"] = found.size, f"all images have it: {found.size}x{found.size}"
        else:
            size = max((each for each in SIZES if each <= min(found.size, most)), default=SIZES[0])
            limit = "" if found.size <= most else f"; more takes long {'here' if gpu else 'without a GPU'}"
            why["data.size"] = f"{median}{limit}; the central square of each is resized to it"
        data["size"] = size
        data["channels"] = channels
        why["data.channels"] = "there are colour images" if found.colour else "all images are grey"
    if "test" in found.drawn:
        data["test_fraction"] = found.source.test_fraction
        why["data.test_fraction"] = f"there is no test split: {found.parts['test']} images are held out"
    if "val" in found.drawn:
        data["val_fraction"] = found.source.val_fraction
        why["data.val_fraction"] = f"of the rest: {found.parts['val']} images, which may steer"
    if found.corrupt:
        data["max_corrupt"] = found.corrupt
        why["data.max_corrupt"] = "so many cannot be read; each is named when it is skipped"
    if draws_evenly(found):
        data["balanced_sampling"] = True
        why["data.balanced_sampling"] = f"classes are uneven, {found.ratio:.1f} to 1: all are drawn equally often"
    elif found.ratio >= UNEVEN:
        data["class_weights"] = "balanced"
        why["data.class_weights"] = f"classes are uneven, {found.ratio:.1f} to 1: rare ones count more in the loss"
    return data, size, channels


def _network(found: Survey, size: int, gpu: bool, start: Start, why: dict[str, str]) -> dict[str, Any]:
    if start.pretrained is not None:
        why["model"] = start.why
        return {**start.model, "pretrained": start.pretrained, "freeze_epochs": 1}
    if size <= _SMALL:
        depth = 56 if gpu else 20
        why["model"] = f"from scratch: ResNet-{depth}-D for small images (arXiv 1812.01187)"
        return {"kind": "resnet", "depth": depth, "variant": "D"}
    depth = 50 if found.parts["train"] > 20_000 else 18
    why["model"] = f"from scratch: ResNet-{depth}-D (arXiv 1812.01187)"
    return {"kind": "resnet", "depth": depth, "variant": "D"}


def _augment(found: Survey, size: int, why: dict[str, str]) -> list[dict[str, Any]]:
    if size <= _SMALL:
        tricks: list[dict[str, Any]] = [{"kind": "crop", "padding": max(1, size // 8)}]
        why["augment.crop"] = "moves images by up to an eighth of their side"
    else:
        tricks = [{"kind": "random_resized_crop", "scale": [0.35, 1.0]}]
        why["augment.random_resized_crop"] = "a random part of each image, at least 35 % of it"
    if all(len(name) == 1 or name.isdigit() for name in found.classes):
        why["augment"] = "no flip: by their names the classes are characters, which it would turn into others"
    else:
        tricks.append({"kind": "flip"})
        why["augment.flip"] = "take it out where left and right matter (writing, arrows)"
    return tricks


def _batch(train: int, workers: int, each: int) -> int:
    """A power of two a worker, at most ``each``, so that an epoch has some updates."""
    while each > 8 and train < each * workers * _STEPS_AN_EPOCH:
        each //= 2
    while each > 1 and train < each * workers:
        each //= 2
    return each * workers


def _workers(batch: int, size: int, machine: Machine) -> tuple[int, int]:
    """Workers, and CPUs of each: more of them than there is work for would only wait for each other."""
    if machine.gpus:
        return len(machine.gpus), max(1, machine.cpus // len(machine.gpus))
    workers = 1
    while workers * 2 <= min(machine.cpus, batch // _IMAGES_A_WORKER, _WORKERS):
        workers *= 2
    useful = batch // workers * size**2 // _PIXELS_A_CPU
    return workers, max(1, min(machine.cpus // workers, useful))


def _fit(data: dict[str, Any], found: Survey, image: tuple[int, int], machine: Machine) -> tuple[int, int, int]:
    """The batch that fits into the memory, and bytes on a worker: of its activations, of weights and what goes with
    them."""
    import psutil

    from jobs.models.size import measure

    spec = JobSpec.model_validate(data)
    (size, channels), workers = image, spec.resources.most
    room = _MEMORY_SHARE * (machine.gpu_bytes or min(psutil.virtual_memory().available, memory()))
    batch = spec.batch_size
    while True:
        takes = measure(spec.model, len(found.classes), channels, size, batch // workers, 4)
        if takes.activation_bytes <= room or batch // workers <= 1:
            return batch, takes.activation_bytes, 12 * takes.parameters  # with gradients and momentum
        batch = batch // workers // 2 * workers


def _speed(data: dict[str, Any], found: Survey, image: tuple[int, int], machine: Machine) -> tuple[float, str]:
    """Images a second of one worker, and how that is known."""
    from jobs.models.size import measure

    gpu = bool(machine.gpus)
    spec = JobSpec.model_validate(assign(data, {"resources.workers": 1, "resources.use_gpu": gpu}))
    size, channels = image
    part = spec.batch_size // data["resources"]["workers"]
    flops = 3 * measure(spec.model, len(found.classes), channels, size, 2, 4).flops_per_image
    speed = _FLOPS_A_CPU * spec.resources.cpus_per_worker
    if not gpu and flops * part / speed > _SLOW_S:
        return speed / flops, f"estimated from {flops / 1e9:.1f} GFLOP an image, {_FLOPS_A_CPU / 1e9:.0f} GFLOP/s a CPU"
    spec = spec.model_copy(update={"batch_size": part})
    count = part * max(2, min(17, _PROBE_BYTES // (part * size * size * channels)))
    shape = (count, size, size, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    cut = spec.resizes and not spec.data.prepare and not (found.one_size and found.size == size)
    original = originals(found, count, channels) if cut else None
    images = Arrays(pixels, np.arange(count, dtype=np.int64) % len(found.classes), original)
    middle = (0.5,) * channels
    drawn = Data(found.classes, channels, size, middle, middle, "", images, images, images, size)
    return images_per_s(spec, drawn, _PROBE_S), machine.timed


def _epochs(train: int, batch: int, rate: float, gpu: bool, fine: bool) -> tuple[int, float]:
    """Epochs, and about the minutes that they take."""
    least, most = _FINE_EPOCHS if fine else _EPOCHS
    wanted = math.ceil(_UPDATES[gpu] / (train // batch))
    affordable = int(_MINUTES[gpu] * 60 * rate / train)
    epochs = max(least, min(most, wanted, affordable))
    return epochs, epochs * train / rate / 60


def _rounded(value: float) -> float:
    """To two significant digits."""
    return float(f"{value:.2g}")

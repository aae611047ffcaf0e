"""The dry run: what a job will do and take, and whether this machine or cluster can hold it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from jobs.data.sets import Arrays, Data
from jobs.spec import JobSpec
from jobs.steps import Steps
from jobs.urls import redact
from orchestrator.execution import nodes, pretrained, teacher
from orchestrator.home import default_uri
from orchestrator.tracking.uri import check_uri

if TYPE_CHECKING:
    from jobs.models.size import Size

_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}
_PROCESS_BYTES = 700 * 2**20
"""Resident memory of a worker before it holds anything: Python, torch, Ray."""


@dataclass(frozen=True)
class Needs:
    """What a job takes.

    Attributes:
        steps: its updates.
        size: its network.
        held: bytes of images in memory, once a node.
        worker: bytes of a worker: weights, optimizer, activations, and on a CPU the process itself.
        checkpoint: bytes of one checkpoint.
        cuda: whether it would run on a GPU here.
    """

    steps: Steps
    size: Size
    held: int
    worker: int
    checkpoint: int
    cuda: bool

    @classmethod
    def of(cls, spec: JobSpec, data: Data) -> Needs:
        """Work it out.

        Raises:
            ValueError: the data or the network do not fit the spec.
        """
        import torch

        from jobs.models.meta import on_meta
        from jobs.models.size import measure
        from jobs.optimizers.depth import depths
        from jobs.precision import resolve

        cuda = torch.cuda.is_available() and spec.resources.use_gpu is not False
        spec = resolve(spec, torch.device("cuda" if cuda else "cpu"))
        steps = spec.steps(len(data.train))
        width = _BYTES[spec.precision]
        size = measure(spec.model, len(data.classes), data.channels, data.size, steps.part, width)
        if data.test_size != data.size:
            measure(spec.model, len(data.classes), data.channels, data.test_size, 1, width)
        if spec.optimizer.layer_decay is not None:
            depths(on_meta(spec.model, len(data.classes), data.channels))
        alike = spec.optimizer.model_copy(update={"layer_decay": None})
        built = alike.build(torch.nn.Conv2d(1, 1, 1), spec.optimizer.rate(spec.batch_size))
        moments = 2 if isinstance(built.defaults.get("betas"), tuple) else 1
        one = size.parameters * (8 if spec.precision == "fp64" else 4)
        averaged = spec.ema is not None
        states = one * (2 + moments + averaged)
        return cls(
            steps,
            size,
            sum(split.images.nbytes for split in (data.train, data.val, data.test) if isinstance(split, Arrays)),
            states + size.activation_bytes + (0 if cuda else _PROCESS_BYTES),
            one * (1 + moments + averaged + (spec.select == "best")),
            cuda,
        )


def plan(spec: JobSpec) -> tuple[dict[str, str], bool]:
    """Lines to print by name, and whether the job fits.

    Raises:
        ValueError: the data, the network, the teacher or the tracking server do not fit the spec.
    """
    import torch

    from jobs.precision import resolve

    check_uri(spec.tracking.uri or redact(default_uri()))
    ready = pretrained.resolve(spec)
    spec = spec.model_copy(update={"data": ready.data})
    need, data = spec.resources, spec.data.open()
    needs = Needs.of(spec, data)
    steps, size = needs.steps, needs.size
    compiled = {True: ", compiled", False: "", "auto": ", compiled if a probe finds that it pays"}[spec.compile]
    spec = resolve(spec, torch.device("cuda" if needs.cuda else "cpu"))
    (cpus, place), memory = nodes.cpus(spec.checkpoint.storage), psutil.virtual_memory().total
    workers, fewest = need.most, spec.sizes[-1]
    wanted, span = fewest * need.cpus_per_worker, f"{fewest}"
    if fewest < workers:
        span = f"{fewest} to {workers} ({', '.join(map(str, reversed(spec.sizes)))}): at least {fewest}"
    room = torch.cuda.mem_get_info()[1] if needs.cuda else memory
    asked = needs.worker if needs.cuda else workers * needs.worker + needs.held
    curve = [1, *(round(steps.total * share / 4) for share in (1, 2, 3)), steps.total]
    base = spec.optimizer.rate(spec.batch_size)
    rates = (f"{base * spec.schedule(max(1, u), steps.total, steps.per_epoch):.4g}" for u in curve)
    remote = bool(os.environ.get("RAY_ADDRESS"))
    gpus = nodes.promised()["GPU"] if remote else torch.cuda.device_count()
    short = need.use_gpu is True and fewest > gpus
    fits = wanted <= cpus and not short and (asked <= room or remote)
    lines = {
        "data": f"{len(data.train)} train, {len(data.val)} val, {len(data.test)} test images; "
        f"{len(data.classes)} classes; {data.size}x{data.size}x{data.channels}; "
        f"{needs.held / 2**20:.0f} MB in memory, once a node",
        "model": f"{size.parameters:,} parameters, {size.flops_per_image / 2e6:,.1f} million multiply-adds an image",
        "updates": f"{steps.total} ({steps.per_epoch} an epoch) of {spec.batch_size} images: {workers} workers x "
        f"{spec.accumulation} accumulation x {steps.part}",
        "lr": "  ".join(f"update {max(1, u)}: {rate}" for u, rate in zip(curve, rates, strict=True)),
        "arithmetic": f"{spec.precision}, {'NHWC' if spec.channels_last else 'NCHW'}{compiled}",
        "workers": f"{span} x {need.cpus_per_worker:g} CPUs = {wanted:g} of {cpus:g} {place}",
        "memory": f"{needs.worker / 2**20:,.0f} MB a worker, {asked / 2**20:,.0f} of {room / 2**20:,.0f} MB in all",
        "disk": f"{needs.checkpoint / 2**20:,.1f} MB a checkpoint, {spec.checkpoint.keep} of them kept",
        "verdict": "fits" if fits else "does not fit: lower resources.workers, cpus_per_worker or batch_size",
    }
    if short:
        lines["gpus"] = f"{fewest} workers x 1 GPU = {fewest} of {gpus:g} {place}"
        lines["verdict"] = "does not fit: lower resources.workers or set resources.use_gpu: auto"
    if ready.model.pretrained is not None:
        lines["pretrained"] = _started(ready, data, base)
    if spec.distillation is not None:
        lines["teacher"] = teacher.told(spec.distillation, data)
    for number, note in enumerate(data.notes):
        lines[f"note {number + 1}"] = note
    return lines, fits


def _started(spec: JobSpec, data: Data, lr: float) -> str:
    """What a network starts from, and how it is tuned; ``spec`` with its weights in a folder."""
    from jobs.models.finetune import head
    from jobs.models.meta import on_meta
    from jobs.optimizers.depth import depths

    network = on_meta(spec.model, len(data.classes), data.channels)
    fresh = head(network, spec.model, len(data.classes), data.channels)
    told = f"{len(network.state_dict()) - len(fresh)} tensors; fresh: {', '.join(sorted(fresh))}"
    if frozen := spec.model.freeze_epochs:
        told += f"; they alone learn for {frozen} of {spec.epochs} epochs"
    if (decay := spec.optimizer.layer_decay) is not None:
        deepest = max(depths(network).values())
        told += f"; lr {lr * decay**deepest:.4g} at depth 0 to {lr:.4g} at {deepest}"
    return told

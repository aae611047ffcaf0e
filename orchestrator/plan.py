"""The dry run: what a job will do and take, and whether this machine or cluster can hold it."""

from __future__ import annotations

import os

import psutil

from jobs.data.sets import Arrays
from jobs.spec import JobSpec
from jobs.steps import Steps

_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}
_PROCESS_BYTES = 700 * 2**20
"""Resident memory of a worker before it holds anything: Python, torch, Ray."""


def plan(spec: JobSpec) -> tuple[dict[str, str], bool]:
    """Lines to print by name, and whether the job fits.

    Raises:
        ValueError: the data or the network do not fit the spec.
    """
    import torch

    from jobs.models.size import measure
    from jobs.precision import resolve

    need = spec.resources
    cuda = torch.cuda.is_available() and need.use_gpu is not False
    spec = resolve(spec, torch.device("cuda" if cuda else "cpu"))
    data = spec.data.open()
    steps = Steps.of(spec, len(data.train))
    size = measure(spec.model, len(data.classes), data.channels, data.size, steps.part, _BYTES[spec.precision])
    width = 8 if spec.precision == "fp64" else 4
    copies = 3 + (spec.ema is not None)
    states = size.parameters * width * copies
    held = sum(s.images.nbytes for s in (data.train, data.val, data.test) if isinstance(s, Arrays))
    worker = states + size.activation_bytes + (0 if cuda else _PROCESS_BYTES)
    cpus, memory = os.cpu_count() or 1, psutil.virtual_memory().total
    wanted = need.workers * need.cpus_per_worker
    room = torch.cuda.mem_get_info()[1] if cuda else memory
    asked = worker if cuda else need.workers * worker + held
    curve = [1, *(round(steps.total * share / 4) for share in (1, 2, 3)), steps.total]
    base = spec.optimizer.rate(spec.batch_size)
    spec.optimizer.build(torch.nn.Conv2d(1, 1, 1), base)  # a wrong name or argument shows here
    rates = (f"{base * spec.schedule(max(1, u), steps.total, steps.per_epoch):.4g}" for u in curve)
    fits = (wanted <= cpus and asked <= room) or bool(os.environ.get("RAY_ADDRESS"))
    lines = {
        "data": f"{len(data.train)} train, {len(data.val)} val, {len(data.test)} test images; "
        f"{len(data.classes)} classes; {data.size}x{data.size}x{data.channels}; "
        f"{held / 2**20:.0f} MB in memory, once a node",
        "model": f"{size.parameters:,} parameters, {size.flops_per_image / 2e6:,.1f} million multiply-adds an image",
        "updates": f"{steps.total} ({steps.per_epoch} an epoch) of {spec.batch_size} images: {need.workers} workers x "
        f"{spec.accumulation} accumulation x {steps.part}",
        "lr": "  ".join(f"update {max(1, u)}: {rate}" for u, rate in zip(curve, rates, strict=True)),
        "arithmetic": f"{spec.precision}, {'NHWC' if spec.channels_last else 'NCHW'}",
        "workers": f"{need.workers} x {need.cpus_per_worker:g} CPUs = {wanted:g} of {cpus} here",
        "memory": f"{worker / 2**20:,.0f} MB a worker, {asked / 2**20:,.0f} of {room / 2**20:,.0f} MB in all",
        "verdict": "fits" if fits else "does not fit: lower resources.workers, cpus_per_worker or batch_size",
    }
    for number, note in enumerate(data.notes):
        lines[f"note {number + 1}"] = note
    return lines, fits

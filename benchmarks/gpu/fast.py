"""Stage 4: how fast is it, against a loop with nothing around it, against the usual loop, and against the card?"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.cell import Cell, Row, Setting, Stage
from benchmarks.gpu.correct import examples
from benchmarks.gpu.loops import Ours, Segment, bare, in_turns, usual
from benchmarks.gpu.made import images, job, place, resolved, spread, synchronize
from jobs.batch import At
from jobs.data.sets import Data
from jobs.models.size import measure
from jobs.randomness import SampleDraws, generator
from jobs.spec import JobSpec

CORES = len(os.sched_getaffinity(0))
NETWORKS: dict[str, dict[str, Any]] = {
    "wide ResNet-20 at 32 px": {"model": {"kind": "resnet", "depth": 20, "width": 64}, "batch_size": 512},
    "ResNet-20 at 32 px": {"model": {"kind": "resnet", "depth": 20}, "batch_size": 512},
    "ResNet-50 at 224 px": {"model": {"kind": "resnet", "depth": 50}, "batch_size": 256},
}
"""The first is like a CIFAR ResNet-18: 3x3 stem, 64 channels to begin with; the row has its GFLOPs an image."""
TURNS = 5


def sized(name: str, setting: Setting, **more: Any) -> tuple[JobSpec, Data]:
    """A job and its images, in memory."""
    changes = {**NETWORKS[name], **more}
    if setting.quick:
        changes |= {"model": {"kind": "resnet", "depth": 8, "width": 8}, "batch_size": 32}
    large, size = "224" in name, (setting.pick(224, 32) if "224" in name else 32)
    count = setting.pick(4096 if large else 40960, 96)
    return job(**changes), images(count, size, held=setting.pick(512, 32))


def rate_of(act: Any, device: str, repeats: int) -> float:
    """Seconds a call, many in a row, the device's work included."""
    act()
    synchronize(device)
    began = time.perf_counter()
    for _ in range(repeats):
        act()
    synchronize(device)
    return (time.perf_counter() - began) / repeats


def ceilings(setting: Setting) -> Row:
    """The rates that the card has by measurement: of a matrix product, and of a copy."""
    side = setting.pick(8192, 256)
    row: Row = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)):
        a, b = (torch.randn(side, side, device=place(setting.device).device, dtype=dtype) for _ in range(2))
        times = [rate_of(partial(torch.mm, a, b), setting.device, setting.pick(10, 1)) for _ in range(3)]
        row[f"{name} TFLOP/s"] = spread([2 * side**3 / each / 1e12 for each in times])
    source = torch.empty(setting.pick(2**31, 2**16), dtype=torch.uint8, device=place(setting.device).device)
    target = torch.empty_like(source)
    times = [rate_of(partial(target.copy_, source), setting.device, setting.pick(10, 1)) for _ in range(3)]
    return row | {"copy GB/s, read and written": spread([2 * source.numel() / each / 1e9 for each in times])}


def compared(worlds: dict[str, Segment], spec: JobSpec, data: Data, setting: Setting, turns: int = TURNS) -> Row:
    """Images/s of each in turns, ratios of the first to the others, share of the card's rate, peak memory."""
    rates: dict[str, list[float]] = {name: [] for name in worlds}
    memory: dict[str, float] = {}
    for turn, name, rate in in_turns(_watched(worlds, memory, setting.device), setting.pick(turns, 1)):
        assert len(rates[name]) == turn
        rates[name].append(rate)
    first, *others = rates
    row: Row = {"images/s": {name: spread(values) for name, values in rates.items()}}
    for name in others:
        row[f"{first} / {name}"] = spread([a / b for a, b in zip(rates[first], rates[name], strict=True)])
    flops = measure(spec.model, len(data.classes), data.channels, data.size, 1, 4).flops_per_image
    best = spread(rates[first])[0]
    row |= {"GFLOPs": round(flops / 1e9, 2), "TFLOP/s": float(f"{3 * flops * best / 1e12:.4g}")}
    return row | {"peak MB over all": memory} if memory else row


def _watched(worlds: dict[str, Segment], memory: dict[str, float], device: str) -> dict[str, Segment]:
    """The same worlds; what each adds at its peak to what lies there goes to ``memory``."""

    def segment(name: str) -> tuple[int, float]:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        told = worlds[name]()
        memory[name] = round((torch.cuda.max_memory_allocated() - before) / 2**20)
        return told

    return {name: partial(segment, name) for name in worlds} if device == "cuda" else worlds


def loops(name: str, setting: Setting) -> Row:
    """Ours, the bare loop and the usual loop, pixels on the device."""
    spec, data = sized(name, setting)
    ours = Ours(spec, data, setting.device)
    few = data
    if not setting.quick and "32" in name:  # the usual loop is slow, and its rate does not hang on the number
        few = replace(data, train=replace(data.train, images=data.train.images[:8192], labels=data.train.labels[:8192]))  # type: ignore[union-attr, type-var]
    worlds: dict[str, Segment] = {
        "ours": ours,
        "bare": bare(spec, data, setting.device),
        "usual": usual(spec, few, setting.device, None, setting.pick(CORES, 0)),
    }
    try:
        return compared(worlds, spec, data, setting)
    finally:
        ours.close()


def compiled(name: str, setting: Setting) -> Row:
    """Ours and the bare loop with ``torch.compile``, against ours without."""
    spec, data = sized(name, setting)
    with_, worlds = spec.override({"compile": True}), dict[str, Segment]()
    began = time.perf_counter()
    first = Ours(with_, data, setting.device)
    first()
    seconds = time.perf_counter() - began
    plain = Ours(spec, data, setting.device)
    worlds = {"ours, compiled": first, "bare, compiled": bare(with_, data, setting.device), "ours": plain}
    try:
        return compared(worlds, spec, data, setting, 3) | {"s until the first epoch ends": round(seconds, 1)}
    finally:
        first.close()
        plain.close()


def tricks(setting: Setting) -> Row:
    """Each trick as a share of a bf16 ResNet-20 step at batch 256, many in a row of each."""
    device, count, repeats = place(setting.device).device, setting.pick(256, 16), setting.pick(50, 2)
    spec = resolved(job(model={"kind": "resnet", "depth": setting.pick(20, 8)}, batch_size=count), setting.device)
    x = torch.randn(count, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    y = torch.eye(10, device=device).repeat(count // 10 + 1, 1)[:count]
    pixels, index = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8).to(device), torch.arange(count)
    network = spec.model.build(10, 3).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, fused=True)
    half = torch.bfloat16 if spec.precision == "bf16" else None

    def step() -> None:
        with torch.autocast(device.type, half, enabled=half is not None):
            loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    acts: dict[str, Any] = {}
    for kind, several in examples("batch").items():
        acts[f"batch.{kind}"] = lambda trick=several[0]: trick(x, y, generator(0), At(0, 0, 0, 2, 20))
    for kind, several in examples("augment").items():
        acts[f"augment.{kind}"] = lambda trick=several[0]: trick(pixels, SampleDraws(0, 0, index, device), 32)
    shares: dict[str, list[float]] = {name: [] for name in acts}
    steps = []
    for _ in range(setting.pick(3, 1)):
        for name, act in acts.items():
            steps.append(rate_of(step, setting.device, repeats))
            shares[name].append(rate_of(act, setting.device, repeats) / steps[-1])
    ranked = sorted(shares.items(), key=lambda item: -max(item[1]))
    return {"step ms": spread([1e3 * each for each in steps]), "share": {name: spread(v) for name, v in ranked}}


def cells(setting: Setting) -> list[Cell]:
    """Ceilings first, since shares are of them."""
    names = list(NETWORKS)[:1] if setting.quick else list(NETWORKS)
    several = [Cell(f"loops: {name}", partial(loops, name), 150.0) for name in names]
    rest = [Cell("ceilings", ceilings), *several, Cell("tricks", tricks, 90.0)]
    if setting.quick:
        return rest
    return rest + [Cell(f"compiled: {name}", partial(compiled, name), 150.0) for name in names]


STAGE = Stage("fast", "images/s against a bare loop, the usual loop and the card", 360.0, cells)

"""Stage 2: does a step wait for the device?

Two ways to know. While an epoch's updates run, torch reports every operation that synchronises, with the line that
asked for it. What torch does not report (copies from memory that is not pinned) shows by the clock: the device sleeps,
and whatever is called meanwhile has to come back before it wakes.
"""

from __future__ import annotations

import collections
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import jobs.train
from benchmarks.gpu.cell import Cell, Row, Setting, Stage
from benchmarks.gpu.correct import examples
from benchmarks.gpu.made import Run, images, job, place, resolved, synchronize, teacher
from jobs import specfile
from jobs.backward import backward
from jobs.batch import At
from jobs.data.loader import Loader
from jobs.data.sets import Data
from jobs.divergence import NonFiniteLossError
from jobs.randomness import SampleDraws, generator
from jobs.run import Run as Running
from jobs.spec import JobSpec

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
SLEEP_S = 0.2
"""How long the device sleeps."""
QUEUE = 1000
"""Kernels that a GPU takes in advance, nearly; with more the host waits for room."""
CLOCK_HZ = 2e9
"""Cycles a second that a sleeping device is taken to count; the sleep is timed before it is used."""
FP16 = {"precision": "fp16"}
MORE: dict[str, dict[str, Any]] = {
    "fp16": FP16,
    "fp16, AdaBound (waits, as its page says)": {**FP16, "optimizer": {"kind": "adabound", "lr": 1e-3}},
    "EMA, accumulation, clipping": {"ema": {}, "accumulation": 2, "optimizer__clip_norm": 1.0},
    "AdamW": {"optimizer": {"kind": "adamw", "lr": 1e-3}},
    "lamb of timm": {"optimizer": {"kind": "timm", "name": "lamb", "lr": 1e-3}},
    "deterministic": {"deterministic": True},
}


class Operators(TorchDispatchMode):
    """Counts torch's operators while it is on; views launch nothing and do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one."""
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


class Waits:
    """Counts synchronising operations by the line of the repository that asks for them."""

    def __init__(self, device: str) -> None:
        self.cuda, self.lines = device == "cuda", collections.Counter[str]()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """While an epoch's updates run."""
        if not self.cuda:
            yield
            return
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = self._seen  # type: ignore[assignment]
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")

    def _seen(self, message: Warning | str, *where: Any) -> None:
        if "called a synchronizing" not in str(message):  # torch also says that this mode is a prototype
            return
        frames = [frame for frame in traceback.extract_stack(sys._getframe(1)) if "/jobs/" in frame.filename]
        last = frames[-1] if frames else None
        name = f"jobs/{last.filename.rpartition('/jobs/')[2]}:{last.lineno} {last.line}" if last else "elsewhere"
        self.lines[name] += 1

    def loader(self) -> Any:
        """The loop's loader, whose epochs are counted from the first update to the last."""
        waits = self

        class Counted(Loader):
            def epoch(self, epoch: int, done: int) -> Iterator[Any]:
                with waits.counted():
                    yield from super().epoch(epoch, done)

        return Counted


def counted(spec: JobSpec, setting: Setting, assets: dict[str, Any] | None = None, data: Data | None = None) -> Row:
    """An epoch of a job: which lines wait, and how often in how many updates; fp16 with an optimizer that has no fused
    form does, as docs/gpu.md says."""
    data = data or images(setting.pick(8, 2) * spec.batch_size, held=spec.batch_size)
    waits, row = Waits(setting.device), {}
    try:
        with mock.patch.object(jobs.train, "Loader", waits.loader()):
            Run(spec, data, setting.device, assets)
    except NonFiniteLossError as error:  # large networks are scored here after 8 updates; what was counted counts
        row["diverged"] = str(error).partition(";")[0]
    documented = [line for line in waits.lines if line.endswith("scaler.step(optimizer)")]
    ok = len(documented) == len(waits.lines)
    return {"ok": ok, "waits": dict(waits.lines), "updates": spec.steps(len(data.train)).total} | row


def small(changes: dict[str, Any], setting: Setting) -> Row:
    """An epoch of the small job with changes."""
    return counted(job(epochs=1, **changes), setting)


def recipe(path: Path, setting: Setting) -> Row:
    """A recipe for one epoch of a few small images in memory; its teacher is a small one."""
    raw = specfile.read(path, JobSpec)
    large = path.parent.name == "imagenet" or path.stem == "finetune_folder"
    batch, size = setting.pick(64, 8), setting.pick(128, 96) if large else 32
    changes: dict[str, Any] = {
        "data": {"kind": "synthetic"},
        "epochs": 1,
        "batch_size": batch,
        "schedule.warmup_epochs": min(0.5, raw.schedule.warmup_epochs),
        "resources.workers": 1,
        "model.freeze_epochs": 0,
        "model.pretrained": None,
    }
    data = images(setting.pick(8, 2) * batch, size, held=batch, channels=1 if raw.data.kind == "digits" else 3)
    with tempfile.TemporaryDirectory() as scratch:
        assets = {}
        if raw.distillation is not None:
            assets["teacher"] = teacher(Path(scratch) / "teacher", data)
            changes["distillation.teacher"] = {"kind": "model", "path": assets["teacher"]}
        return counted(raw.override(changes), setting, assets, data)


def strict(setting: Setting) -> Row:
    """An epoch with torch set to raise at the first wait."""

    class Raising(Loader):
        def epoch(self, epoch: int, done: int) -> Iterator[Any]:
            torch.cuda.set_sync_debug_mode("error")
            try:
                yield from super().epoch(epoch, done)
            finally:
                torch.cuda.set_sync_debug_mode("default")

    with mock.patch.object(jobs.train, "Loader", Raising if setting.device == "cuda" else Loader):
        run = Run(job(epochs=1), images(setting.pick(512, 128)), setting.device)
    return {"ok": True, "updates": run.outcome.step}


def asleep(calls: dict[str, Callable[[], object]], setting: Setting) -> Row:
    """Milliseconds until each call comes back while the device sleeps; the second time, when memory is at hand."""
    took: dict[str, float] = {}
    cycles, slept = int(SLEEP_S * CLOCK_HZ), SLEEP_S
    if setting.device == "cuda":
        torch.cuda._sleep(cycles)
        synchronize(setting.device)
        began = time.perf_counter()
        torch.cuda._sleep(cycles)
        synchronize(setting.device)
        slept = time.perf_counter() - began
    waits, many = Waits(setting.device), {}
    for name, call in calls.items():
        with waits.counted(), Operators() as operators:
            call()
        if operators.count > QUEUE:  # the host waits for room in the queue, whatever it is that it launches
            many[name] = operators.count
        for _ in range(3):
            synchronize(setting.device)
            if setting.device == "cuda":
                torch.cuda._sleep(cycles)
            began = time.perf_counter()
            call()
            took[name] = round(1e3 * (time.perf_counter() - began), 2)
    synchronize(setting.device)
    back = all(ms < 500 * slept for name, ms in took.items() if name not in many)
    return {
        "ok": (setting.device != "cuda" or back) and not waits.lines,
        "ms": took,
        "slept ms": round(1e3 * slept),
        **({"operators, more than the queue holds": many} if many else {}),
        **({"waits": dict(waits.lines)} if waits.lines else {}),
    }


def tricks(setting: Setting) -> Row:
    """Every batch trick and augmentation at its first example."""
    device, count = place(setting.device).device, setting.pick(512, 16)
    x, y = torch.randn(count, 3, 32, 32, device=device), torch.eye(10, device=device).repeat(count // 10 + 1, 1)[:count]
    pixels, index = torch.zeros(count, 32, 32, 3, dtype=torch.uint8, device=device), torch.arange(count)
    calls: dict[str, Callable[[], object]] = {}
    for kind, several in examples("batch").items():
        calls[kind] = partial(several[0], x, y, generator(0), At(0, 0, 0, 2, 20))
    for kind, several in examples("augment").items():
        calls[kind] = partial(several[0], pixels, SampleDraws(0, 0, index, device), 32)
    return asleep(calls, setting)


def update(setting: Setting) -> Row:
    """One whole update: feeding, forward, backward, optimizer, average."""
    where = place(setting.device)
    spec = job(ema={}, batch_size=setting.pick(512, 64), precision="bf16" if setting.device == "cuda" else "fp32")
    data = images(8 * spec.batch_size)
    spec = resolved(spec, setting.device)
    steps = spec.steps(len(data.train))
    run = Running(spec, data, where, steps, {})
    parts = Loader(spec, data, where, steps).epoch(0, 0)

    def act() -> None:
        step, several = next(parts)
        for part, x, labels in several:
            run.losses[step] += backward(run, part, x, labels, 10)
        run.update(run.lr)

    return asleep({"update": act}, setting)


def cells(setting: Setting) -> list[Cell]:
    """The small recipes first, then one of each large network, then all others."""
    first = ["resnet50d_mixup_distill", "resnet50_strikes_back_a3", "resnet50_torchvision_v2"]
    first += ["inception_v3_mixup_distill", "mobilenet_mixup_distill"]
    large = sorted((RECIPES / "imagenet").glob("*.yaml"), key=lambda path: (path.stem not in first, path.stem))
    paths = [RECIPES / "digits.yaml", *sorted((RECIPES / "cifar10").glob("*.yaml")), *large]
    paths += [RECIPES / name for name in ("finetune_folder.yaml", "refinements.yaml", "cifar10.yaml")]
    more = dict(MORE)
    if setting.quick:
        paths, more = [RECIPES / "cifar10" / "distillation.yaml"], {"AdamW": MORE["AdamW"]}
    return [
        Cell("an epoch that may not wait", strict),
        Cell("tricks while the device sleeps", tricks),
        Cell("an update while the device sleeps", update),
        *(Cell(name, partial(small, changes)) for name, changes in more.items()),
        *(Cell(str(path.relative_to(RECIPES)), partial(recipe, path)) for path in paths),
    ]


STAGE = Stage("wait", "which lines of a step wait for the device", 90.0, cells)

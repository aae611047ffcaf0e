"""Stage 1: is what comes out on the device what comes out on the CPU, with the same draws?

Identical where the code says so: pixels of every augmentation, of cutting and erasing, counts, and a teacher's answers
from the cache. Elsewhere within a bound: float32 against float64 on the CPU; half precisions against what the CPU
loses in the same arithmetic.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.cell import Cell, Row, Setting, Stage
from benchmarks.gpu.made import Run, apart, exactly, far, images, job, place, teacher
from jobs import precision
from jobs.batch import At
from jobs.evaluate import Tally, evaluate
from jobs.randomness import SampleDraws, generator, seed_global

FP32 = 1e-5
"""Bound on the relative error of float32, which sums in another order on a GPU."""
KINK = 2e-2
"""The same for gradients, which jump where a ReLU's input is 0 but for rounding."""
TIMES = 4.0
"""How many times what a CPU loses in the same arithmetic a GPU may lose."""
COUNT, SIZE, CLASSES = 64, 32, 10
LOOSE = {"mixup": FP32}
"""Batch tricks whose pixels are computed and not moved: a GPU rounds a product and its sum once."""
RUNS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "accumulation": {"accumulation": 2},
    "EMA": {"ema": {"decay": 0.9}},
    "NCHW": {"channels_last": False},
    "class weights, balanced": {"data__class_weights": "balanced", "data__balanced_sampling": True},
    "clipped AdamW": {"optimizer": {"kind": "adamw", "lr": 1e-3, "clip_norm": 0.1}},
    "tricks": {"batch": [{"kind": "cutout", "size": 8}, {"kind": "mixup"}, {"kind": "label_smoothing"}]},
    "bf16": {"precision": "bf16"},
    "fp16, scaled": {"precision": "fp16"},
    "distillation": {"distillation": True},
    "compiled": {"compile": True},
}


def examples(slot: str) -> dict[str, list[Any]]:
    """The examples of the contract tests by kind, in their order."""
    found: dict[str, list[Any]] = {}
    module = importlib.import_module(f"tests.contracts.test_{slot}")
    for one in getattr(module, "ORDINARY", module.EXAMPLES):
        found.setdefault(getattr(one, "name", one.kind) if slot == "optimizers" else one.kind, []).append(one)
    return found


def worst(pairs: Iterator[tuple[torch.Tensor, torch.Tensor, float]]) -> Row:
    """A row of (found, wanted, bound): bound 0 asks for identity."""
    same, largest, fine, count = True, 0.0, True, 0
    for found, wanted, bound in pairs:
        equal, error = torch.equal(found.cpu(), wanted), far(found, wanted)
        same, largest, count = same and equal, max(largest, error), count + 1
        fine = fine and (equal if bound == 0 else error <= bound)
    return {"ok": fine, "identical": same, "largest": largest, "compared": count}


def batch_trick(kind: str, setting: Setting) -> Row:
    device, at = place(setting.device).device, At(1, 13, 0, 3, 30)

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
        for number, trick in enumerate(examples("batch")[kind]):
            source = generator("gpu", number)
            x = torch.randn(COUNT, 3, SIZE, SIZE, generator=source)
            y = torch.eye(CLASSES)[torch.randint(CLASSES, (COUNT,), generator=source)]
            wanted, soft = trick(x, y, generator(number), at)
            found, targets = trick(x.to(device), y.to(device), generator(number), at)
            if getattr(trick, "fill", "mean") == "noise":  # drawn on the device, so only where it goes is the same
                found, wanted = found.cpu().where(found.cpu() == x, 0), wanted.where(wanted == x, 0)
            yield found, wanted, LOOSE.get(kind, 0.0)
            yield targets, soft, FP32

    return worst(pairs())


def augmentation(kind: str, setting: Setting) -> Row:
    device = place(setting.device).device

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
        pixels = torch.randint(256, (COUNT, SIZE, SIZE, 3), generator=generator("pixels"), dtype=torch.uint8)
        index = torch.arange(COUNT)
        for trick in examples("augment")[kind]:
            draws = SampleDraws(1, 2, index)
            found = trick(pixels.to(device), SampleDraws(1, 2, index, device), SIZE)
            yield found, trick(pixels, draws, SIZE), 0.0

    return worst(pairs())


def loss(setting: Setting) -> Row:
    device = place(setting.device).device

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
        for several in examples("losses").values():
            for one in several:
                source = generator("loss")
                logits = torch.randn(COUNT, CLASSES, generator=source)
                targets = torch.randn(COUNT, CLASSES, generator=source).softmax(1)
                results = []
                for where, dtype in ((device, torch.float32), (torch.device("cpu"), torch.float64)):
                    z = logits.to(where, dtype, copy=True).requires_grad_()
                    value = one(z, targets.to(where, dtype), torch.linspace(0.5, 1.5, CLASSES).to(where))
                    value.backward()
                    results.append((value, z.grad))
                yield from ((a, b, FP32) for a, b in zip(*results, strict=True))

    return worst(pairs())


def optimizer(kind: str, setting: Setting) -> Row:
    """Six updates with equal gradients; where they end."""
    from tests.jobs.optimizers.nets import backward, small

    device = place(setting.device).device

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
        for spec in examples("optimizers")[kind]:
            source, ours, theirs = small(), small().to(device), small()
            pair = [(net, spec.build(net, spec.rate(64))) for net in (ours, theirs)]
            for update in range(1, 7):
                backward(source, update)
                for network, stepper in pair:
                    for mine, given in zip(network.parameters(), source.parameters(), strict=True):
                        mine.grad = torch.empty_like(mine).copy_(given.grad)  # type: ignore[arg-type]
                    for group in stepper.param_groups:
                        group["lr"] = spec.rate(64) * (1 - update / 10) * group.get("lr_scale", 1.0)
                    stepper.step()
            vectors = [torch.cat([p.detach().cpu().flatten() for p in net.parameters()]) for net in (ours, theirs)]
            yield vectors[0], vectors[1], 1e-2 if kind == "muon" else FP32  # which orthogonalises in bf16

    return worst(pairs())


def schedules(setting: Setting) -> Row:
    """The factor of every update as the optimizer on the device has it; plain Python, so identical."""
    parameter = torch.nn.Parameter(torch.zeros(1, device=place(setting.device).device))
    stepper = torch.optim.SGD([parameter], lr=1.0, fused=True)
    from jobs.schedules import ScheduleSpec

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
        for several in examples("schedules").values():
            for decay in several:
                schedule = ScheduleSpec(decay=decay, warmup_epochs=1.0)
                for update in (1, 5, 10, 11, 30):
                    parameter.grad = -torch.ones_like(parameter)
                    with torch.no_grad():
                        parameter.zero_()
                    stepper.param_groups[0]["lr"] = factor = schedule(update, 30, 10)
                    stepper.step()
                    yield parameter, torch.tensor([factor]), 0.0

    return worst(pairs())


def model(number: int, setting: Setting) -> Row:
    """Logits and gradients in every arithmetic and both layouts, against float64 on the CPU."""
    from tests.contracts.test_models import EXAMPLES

    exactly()
    spec, device = EXAMPLES[number], place(setting.device).device
    x = torch.randn(16, 3, SIZE, SIZE, generator=generator("model"))
    labels = torch.arange(16) % CLASSES

    def passed(where: torch.device, dtype: torch.dtype, cast: str, layout: torch.memory_format) -> list[torch.Tensor]:
        seed_global("model")
        network = spec.build(CLASSES, 3).to(where, dtype).to(memory_format=layout)
        for module in network.modules():  # dropout and stochastic depth draw from the device's own generator
            if "rop" in type(module).__name__:
                module.eval()
        given = x.to(where, dtype).to(memory_format=layout)
        kind = precision._AUTOCAST.get(cast)
        with torch.autocast(where.type, kind, enabled=kind is not None):
            logits = network(given)
        torch.nn.functional.cross_entropy(
            logits.to(torch.promote_types(logits.dtype, torch.float32)), labels.to(where)
        ).backward()
        return [logits, torch.cat([p.grad.flatten() for p in network.parameters()])]  # type: ignore[union-attr]

    cpu, nhwc, nchw = torch.device("cpu"), torch.channels_last, torch.contiguous_format
    exact = passed(cpu, torch.float64, "", nchw)
    row: Row = {"ok": True}
    for name, cast, layout in (("fp32", "", nchw), ("NHWC", "", nhwc), ("bf16", "bf16", nhwc), ("fp16", "fp16", nhwc)):
        ours = passed(device, torch.float32, cast, layout if device.type == "cuda" else nchw)
        theirs = passed(cpu, torch.float32, cast, nchw)  # in NHWC some CPUs fail on so few channels (docs/log.md)
        errors = [[far(found, wanted) for found, wanted in zip(each, exact, strict=True)] for each in (ours, theirs)]
        row[name] = [float(f"{value:.2g}") for value in errors[0]]
        least = (FP32, KINK) if not cast else (0.0, 0.0)
        row["ok"] &= all(a <= max(TIMES * b, c) for a, b, c in zip(*errors, least, strict=True))
    return row


def evaluation(setting: Setting) -> Row:
    """Counts of equal logits, and of a network."""
    exactly()
    where = place(setting.device)
    logits = torch.randn(500, CLASSES, generator=generator("logits"))
    labels = torch.randint(CLASSES, (500,), generator=generator("labels"))
    tallies = []
    for device in (where.device, torch.device("cpu")):
        tallies.append(tally := Tally(CLASSES, device))
        for part in range(0, 500, 128):
            tally.add(logits[part : part + 128].to(device), labels[part : part + 128].to(device))
    ours, theirs = (tally.scores(500) for tally in tallies)
    same = ours.top1 == theirs.top1 and ours.means["top5"] == theirs.means["top5"]
    same = same and torch.equal(ours.confusion, theirs.confusion)  # type: ignore[arg-type]
    seed_global("evaluated")
    network = job(model={"kind": "resnet", "depth": 8}).model.build(CLASSES, 3)
    x = torch.randn(500, 3, SIZE, SIZE, generator=generator("x"))
    scores = []
    for one in (where, place("cpu")):
        batch = [(x.to(one.device), labels.to(one.device))]
        spec = job(precision="fp32")
        cast = partial(precision.autocast, spec, one.device)
        scores.append(evaluate(network.to(one.device), batch, 500, CLASSES, one, cast, flip=True))
    loss_apart = abs(scores[0].loss / scores[1].loss - 1)
    right_apart = abs(scores[0].top1 - scores[1].top1)
    return {"ok": same and loss_apart < FP32 and right_apart <= 0.004, "counts identical": same, "loss": loss_apart}


def run(name: str, setting: Setting) -> Row:
    """Two epochs on the device and on the CPU: how far the losses are apart."""
    exactly()
    changes = dict(RUNS[name])
    with tempfile.TemporaryDirectory() as scratch:
        data = images(setting.pick(512, 256))
        assets: dict[str, Any] = {}
        if changes.pop("distillation", False):
            assets["teacher"] = teacher(Path(scratch) / "teacher", data)
            changes["distillation"] = {"teacher": {"kind": "model", "path": assets["teacher"]}}
        if "data__class_weights" in changes:
            from dataclasses import replace

            data = replace(data, class_weights=(0.5, 1.5) * 5, balanced_sampling=True)
        spec = job(**{"precision": "fp32", "optimizer__lr": 0.02, "evaluation__flip": True, **changes})
        ours, theirs = (Run(spec, data, device, assets) for device in (setting.device, "cpu"))
    losses = [torch.tensor(each.values("train/loss"), dtype=torch.float64) for each in (ours, theirs)]
    bound = 2e-3 if spec.precision == "fp32" else 5e-2
    error = far(losses[0], losses[1])
    row: Row = {"ok": error <= bound, "loss": error, "weights": apart(ours.weights, theirs.weights), "bound": bound}
    if spec.precision == "fp16":
        row["skipped updates"] = [each.values("skipped_updates")[-1] for each in (ours, theirs)]
    return row


def cached(setting: Setting) -> Row:
    """Distillation without the logit cache, with it empty, with it full: the same weights, bit for bit."""
    from jobs.logits.store import LogitCache

    with tempfile.TemporaryDirectory() as scratch:
        data = images(setting.pick(512, 128))
        path = teacher(Path(scratch) / "teacher", data)
        spec = job(distillation={"teacher": {"kind": "model", "path": path}}, deterministic=True)
        digests, read = [], 0
        for keeps in (False, True, True):
            cache = LogitCache(Path(scratch) / "logits", 2**28) if keeps else None
            digests.append(Run(spec, data, setting.device, {"teacher": path, "logits": cache}).digest)
            if cache is not None:
                read = cache.read
                cache.close()
    return {"ok": len(set(digests)) == 1 and read > 0, "digests": digests, "answers read": read}


def cells(setting: Setting) -> list[Cell]:
    """The tricks first: they are what nobody else has tested."""
    from tests.contracts.test_models import EXAMPLES

    acts: list[tuple[str, Callable[[Setting], Row]]] = []
    acts += [(f"batch.{kind}", partial(batch_trick, kind)) for kind in examples("batch")]
    acts += [(f"augment.{kind}", partial(augmentation, kind)) for kind in examples("augment")]
    whole = [name for name in RUNS if name != "compiled"]
    acts += [(f"run: {name}", partial(run, name)) for name in whole]
    acts += [("logit cache", cached), ("evaluation", evaluation), ("losses", loss), ("schedules", schedules)]
    acts += [(f"optimizer.{kind}", partial(optimizer, kind)) for kind in examples("optimizers")]
    for number, spec in enumerate(EXAMPLES):
        if spec.pretrained is None:
            told = ", ".join(f"{key} {value}" for key, value in spec.model_dump(exclude_defaults=True).items())
            acts.append((f"model {told or type(spec).__name__}", partial(model, number)))
    if setting.quick:
        kept: dict[str, tuple[str, Callable[[Setting], Row]]] = {}
        for name, act in acts:
            kept.setdefault(name.split(".")[0].split(" ")[0], (name, act))
        return [Cell(name, act) for name, act in kept.values()]
    return [*(Cell(name, act) for name, act in acts), Cell("run: compiled", partial(run, "compiled"), 120.0)]


STAGE = Stage("correct", "the same as on the CPU, with the same draws", 120.0, cells)

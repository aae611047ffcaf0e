"""Objectives whose best configuration is known, and a search over them as the driver would make it, one at a time."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any

from jobs.spec import JobSpec
from tests.jobs.digits_job import job
from tuning.schedulers import NoScheduler, Scheduler
from tuning.searchers import NSGA2, TPE, Method, Searcher
from tuning.searchers.searcher import uniform
from tuning.spec.objective import Objective
from tuning.spec.space import Choice, LogUniform, Space, Uniform

TEACHER = {"teacher": {"kind": "model", "path": "teacher"}}
BEST = {
    "schedule.warmup_epochs": 0.8,
    "batch.label_smoothing.epsilon": 0.05,
    "batch.mixup.alpha": 0.2,
    "distillation.temperature": 4.0,
}
TOP1 = Objective(metric="val/top1", mode="max")
SECONDS = Objective(metric="seconds", mode="min")
EPOCHS = 27

AXES: Space = {
    "schedule.warmup_epochs": Uniform(low=0, high=2.5),
    "batch.label_smoothing.epsilon": Uniform(low=0, high=0.3),
    "batch.mixup.alpha": Choice(values=(0.05, 0.1, 0.2, 0.4)),
    "distillation.temperature": LogUniform(low=1, high=20),
}
BRANCHED: Space = {
    "distillation": Choice(values=(None, TEACHER)),
    "distillation.temperature": LogUniform(low=1, high=20, when={"distillation": "present"}),
    "distillation.weight": LogUniform(low=0.1, high=4, when={"distillation": "present"}),
    "batch.mixup.alpha": LogUniform(low=0.02, high=1, when={"distillation": "absent"}),
    "batch.label_smoothing.epsilon": Uniform(low=0, high=0.3),
}


def base() -> JobSpec:
    return job()


def top1(params: dict[str, Any]) -> float:
    """1 at BEST, less with every unit of distance from it; a name that is not drawn costs as much as a far value."""
    off = 0.0
    for name, best in BEST.items():
        low, high = (f(AXES[name].ends()) for f in (min, max))
        value = params.get(name)
        if value is None:
            off += 0.25
        elif name in ("batch.mixup.alpha", "distillation.temperature"):
            off += (math.log(value / best) / math.log(high / low)) ** 2
        else:
            off += ((value - best) / (high - low)) ** 2
    return 1.0 - off


def curve(params: dict[str, Any], epoch: int) -> float:
    """What a trial of that quality has reached after an epoch: the same rise for all, and noise that dies away."""
    noise = 2.0 * uniform("noise", json.dumps(params), epoch) - 1.0
    return top1(params) - 0.5 * math.exp(-epoch / 3) + 0.1 * noise * math.exp(-epoch / 6)


def run(
    searcher: Searcher,
    trials: int,
    scheduler: Scheduler | None = None,
    epochs: int = 1,
    quality: Callable[[dict[str, Any]], float] = top1,
) -> list[tuple[dict[str, Any], float, int]]:
    """Parameters, last value and epochs of every trial."""
    scheduler = scheduler or NoScheduler().build("max", epochs)
    done = []
    for ordinal in range(trials):
        params = searcher.ask(ordinal)
        if params is None:
            break
        for epoch in range(1, epochs + 1):
            value = curve(params, epoch) if epochs > 1 else quality(params)
            searcher.report(ordinal, epoch, value)
            if stop := scheduler.report(ordinal, epoch, value):
                break
        values = {"val/top1": value, "seconds": epoch * (1.0 + params.get("distillation.weight", 0.0))}
        searcher.tell(ordinal, params, values, "stopped" if stop else "finished")
        done.append((params, value, epoch))
    return done


def asked(method: Method, space: Space = BRANCHED, trials: int = 24, seed: int = 3) -> list[dict[str, Any]]:
    goals = (TOP1, SECONDS) if isinstance(method, NSGA2) else (TOP1,)
    return [params for params, *_ in run(method.build(space, base(), seed, goals), trials)]


if __name__ == "__main__":
    json.dump([asked(TPE(startup_trials=5)), asked(NSGA2(population=6))], sys.stdout)

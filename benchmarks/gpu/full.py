"""Stage 7: the tricks at full length: every recipe of ``jobs/recipes/cifar10`` for 60 epochs, by paired seeds.

Several runs share the card, each in a process of its own. A run that the end of a session cuts resumes from its
newest checkpoint, where the folder is kept, and else begins again; runs that ended are rows.
"""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.cell import Cell, Row, Setting, Stage

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes" / "cifar10"
EPOCHS, SEEDS, TEACHER_DEPTH = 60, 3, 56
CORES = len(os.sched_getaffinity(0))
SIDE_BY_SIDE = 8
MISSING = "CIFAR-10 is not here: name the folder of train.parquet (and test.parquet) in CIFAR10_PARQUET"


def arms(setting: Setting) -> list[str]:
    """The baseline first."""
    names = sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem not in ("baseline", "teacher", "stack"))
    return ["baseline", *names][: 2 if setting.quick else None]


def data_of(setting: Setting) -> dict[str, Any]:
    """The images; where there is no test split, a tenth of train is held out in its place, the same for all seeds."""
    if setting.quick:
        return {"kind": "synthetic", "samples": 400, "size": 8}
    folder = os.environ.get("CIFAR10_PARQUET", "")
    train, test = Path(folder) / "train.parquet", Path(folder) / "test.parquet"
    if not folder or not train.exists():
        raise FileNotFoundError(MISSING)
    fields: dict[str, Any] = {"kind": "parquet", "train": str(train)}
    return fields | ({"test": str(test)} if test.exists() else {"test_fraction": 0.1})


def spec_of(arm: str, seed: int, setting: Setting) -> Any:
    """The recipe at full length, one worker, evaluated at its end alone."""
    from jobs import specfile
    from jobs.spec import JobSpec

    spec = specfile.read(RECIPES / f"{arm}.yaml", JobSpec)
    epochs = setting.pick(EPOCHS, 2)
    scale = epochs / spec.epochs
    changes: dict[str, Any] = {
        "data": data_of(setting),
        "model.depth": TEACHER_DEPTH if arm == "teacher" and not setting.quick else setting.pick(20, 8),
        "epochs": epochs,
        "schedule.warmup_epochs": spec.schedule.warmup_epochs * scale,
        "resources.workers": 1,
        "seed": {"init": seed, "data": seed},
        "evaluation.every_epochs": epochs,
        "checkpoint": {"every_epochs": max(1, epochs // 6), "keep": 1},
    }
    if spec.schedule.decay.kind == "step":
        changes["schedule.decay.at_epochs"] = [at * scale for at in spec.schedule.decay.at_epochs]
    if spec.distillation is not None:
        changes["distillation.teacher"] = {"kind": "model", "path": str(setting.folder / "teacher")}
    return spec.override(changes)


def run(arm: str, seed: int, setting: Setting) -> Row:
    """Train it, and score it on the test split."""
    import torch

    from benchmarks.gpu.made import place
    from jobs.outcome import keep_model
    from jobs.report import Files
    from jobs.train import train

    torch.set_num_threads(max(1, CORES // width(setting)))
    spec = spec_of(arm, seed, setting)
    teacher = setting.folder / "teacher"
    if spec.distillation is not None:
        until = time.monotonic() + 900  # another process may be training it
        while not (teacher / "model.json").exists():
            assert time.monotonic() < until, f"{teacher} has no model; ask for the cell 'teacher' again"
            time.sleep(1)
    data, folder = spec.data.open(), setting.folder / "runs" / f"{arm}-{seed}"
    report = Files(str(folder), 1)
    start = report.store.newest()
    outcome = train(spec, place(setting.device), report, {"data": data, "teacher": str(teacher)}, start)
    report.close()
    assert outcome.test is not None
    shutil.rmtree(folder)  # the row is all that is kept of it
    if arm == "teacher":
        keep_model(str(teacher), outcome, data)
    return {
        "arm": arm,
        "seed": seed,
        "top1": outcome.test.top1,
        "epochs": spec.epochs,
        "test images": len(data.test),
        "precision": outcome.spec.precision,
        "begun again at": 0 if start is None else start.step,
    }


def width(setting: Setting) -> int:
    """Runs side by side."""
    return 1 if setting.quick else max(1, min(SIDE_BY_SIDE, CORES // 2))


def cells(setting: Setting) -> list[Cell]:
    """The teacher, then every arm on the first seed, on the second, ..."""
    try:
        data_of(setting)
    except FileNotFoundError:
        return [Cell("the images", lambda setting: {"ok": None, "note": MISSING})]
    pairs = [(arm, seed) for seed in range(setting.pick(SEEDS, 1)) for arm in arms(setting)]
    several = [Cell(f"{arm}, seed {seed}", partial(run, arm, seed), 900.0) for arm, seed in pairs]
    return several if setting.quick else [Cell("teacher", partial(run, "teacher", 0), 900.0), *several]


STAGE = Stage("full", "every trick at full length: CIFAR-10, 60 epochs, paired seeds", float("inf"), cells, width)

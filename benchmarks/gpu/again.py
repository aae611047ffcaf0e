"""Stage 3: is a run the same again?

With ``deterministic: true`` a run that was killed with SIGKILL and resumed ends with the weights of one that was not.
Without, two equal runs differ; by how much, and what determinism costs.

    python -m benchmarks.gpu.again SPEC FOLDER DEVICE STEP    # trains, and kills itself after so many updates
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.cell import Cell, Row, Setting, Stage
from benchmarks.gpu.made import Run, apart, images, job, place, spread, written
from jobs.checkpoint import State, Store
from jobs.report import Print
from jobs.spec import JobSpec

JOBS: dict[str, dict[str, Any]] = {
    "ResNet-20, tricks": {
        "model": {"kind": "resnet", "depth": 20},
        "batch": [{"kind": "random_erasing", "fill": "noise"}, {"kind": "mixup"}, {"kind": "label_smoothing"}],
        "ema": {"decay": 0.9},
    },
    "ResNet-50-D, max-pool, AdamW": {
        "model": {"kind": "resnet", "depth": 50, "variant": "D", "drop_path": 0.1},
        "augment": [{"kind": "random_resized_crop"}, {"kind": "flip"}],
        "optimizer": {"kind": "adamw", "lr": 1e-3},
    },
    "ResNet-20, fp16": {"model": {"kind": "resnet", "depth": 20}, "precision": "fp16"},
}


def small(name: str, setting: Setting, **more: Any) -> tuple[JobSpec, Any]:
    """A job of three epochs and its images."""
    changes = {"batch_size": setting.pick(128, 32), "epochs": 3, **JOBS[name], **more}
    if setting.quick:
        changes["model"] = {"kind": "resnet", "depth": 8}
    size = setting.pick(96, 32) if "50" in name else 32
    return job(**changes), images(setting.pick(16, 3) * changes["batch_size"], size)


class Dying(Print):
    """Stores checkpoints, and kills its own process after so many updates."""

    def __init__(self, folder: str, step: int) -> None:
        self.store, self.step = Store(folder), step

    def save(self, checkpoint: State) -> None:
        """Whatever was not stored is lost."""
        self.store.save(checkpoint)
        self.store.wait()
        if checkpoint.step >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(name: str, setting: Setting) -> Row:
    """One that runs through, and one that is killed inside its second epoch and resumed in another process."""
    spec, data = small(name, setting, deterministic=True, checkpoint={"every_steps": 2})
    per_epoch = len(data.train) // spec.batch_size
    whole = Run(spec, data, setting.device)
    with tempfile.TemporaryDirectory() as scratch:
        told = Path(scratch) / "told.json"
        told.write_text(json.dumps([name, setting.quick]), encoding="utf-8")
        words = [str(written(Path(scratch) / "spec.yaml", spec)), f"{scratch}/checkpoints", setting.device]
        command = [sys.executable, "-m", "benchmarks.gpu.again", *words, str(per_epoch + 2), str(told)]
        done = subprocess.run(command, check=False, stdout=sys.stderr)
        assert done.returncode == -signal.SIGKILL, f"it ended with {done.returncode} instead of being killed"
        start = Store(f"{scratch}/checkpoints").newest()
    assert start is not None
    resumed = Run(spec, data, setting.device, start=start)
    return {
        "ok": whole.digest == resumed.digest,
        "digests": [whole.digest, resumed.digest],
        "killed after": f"{start.step} of {whole.outcome.step} updates",
        "apart": apart(resumed.weights, whole.weights),
    }


def twice(name: str, setting: Setting) -> Row:
    """Two equal runs in one process, with and without ``deterministic``."""
    row: Row = {}
    for deterministic in (True, False):
        spec, data = small(name, setting, deterministic=deterministic)
        one, other = (Run(spec, data, setting.device) for _ in range(2))
        word = "deterministic" if deterministic else "free"
        row[word] = {
            "equal": one.digest == other.digest,
            "apart": apart(one.weights, other.weights),
            "loss": [each.values("train/loss")[-1] for each in (one, other)],
        }
    return {"ok": row["deterministic"]["equal"], **row}


def cost(name: str, setting: Setting) -> Row:
    """Images/s of the last epoch with and without, in turns."""
    import torch

    rates: dict[str, list[float]] = {"free": [], "deterministic": [], "deterministic, memory not filled": []}
    for turn in range(setting.pick(4, 2)):
        for word in list(rates)[:: -1 if turn % 2 else 1]:
            spec, data = small(name, setting, deterministic=word != "free")
            torch.utils.deterministic.fill_uninitialized_memory = word == "deterministic"  # type: ignore[attr-defined]
            rate = Run(spec, data, setting.device).values("images_per_s")[-1]
            if turn:  # the first one is not counted
                rates[word].append(rate)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    return {"images/s": {word: spread(values) for word, values in rates.items()}} | {
        f"{word} / free": spread([a / b for a, b in zip(rates[word], rates["free"], strict=True)])
        for word in list(rates)[1:]
    }


def cells(setting: Setting) -> list[Cell]:
    """The promise first."""
    names = list(JOBS)[:1] if setting.quick else list(JOBS)
    acts = (("killed and resumed", killed), ("twice", twice), ("cost", cost))
    return [Cell(f"{word}: {name}", partial(act, name), 120.0) for word, act in acts for name in names]


STAGE = Stage("again", "the same again: killed and resumed, twice, and what determinism costs", 120.0, cells)


def main() -> None:
    """The process that is killed."""
    from jobs import specfile
    from jobs.train import train

    path, folder, device, step, told = sys.argv[1:]
    name, quick = json.loads(Path(told).read_text(encoding="utf-8"))
    spec = specfile.read(path, JobSpec)
    _, data = small(name, Setting(device, quick, Path(folder)))
    train(spec, place(device), Dying(folder, int(step)), {"data": data})


if __name__ == "__main__":
    main()

"""The two files: the job, and the search of its recipe."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.names import printable
from jobs.words import byte_size, duration
from orchestrator.init.choose import Recipe
from orchestrator.init.facts import Survey
from orchestrator.init.findings import UNEVEN
from orchestrator.init.machine import Machine
from orchestrator.init.text import block, comment

_HOURS = (1.0, 4.0)
"""What a search is to take, on a CPU and on a GPU."""
_TRIALS = (6, 32)
_LEAST_HOURS = 0.5
_START_S = 3.0
_ETA = 3


def names(output: Path) -> tuple[str, str, Path]:
    """Names of job and search, and the search's file beside the job's."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", output.stem).strip("-_.")[:60] or "images"
    search = re.sub(r"([_-]?)job$", r"\1search", output.stem)
    search = search if search != output.stem else f"{output.stem}_search"
    other = re.sub(r"([_-]?)job$", r"\1search", stem)
    return stem, other if other != stem else f"{stem}_search", output.with_name(f"{search}{output.suffix}")


def job_text(path: Path, found: Survey, recipe: Recipe, advice: Sequence[str]) -> str:
    """The job's YAML.

    Args:
        path: of the file.
        found: the images.
        recipe: what was chosen.
        advice: lines on how to start from trained weights.
    """
    parts = ", ".join(f"{found.parts[split]:,} {split}" for split in ("train", "val", "test"))
    head = [
        *comment(f"{len(found.classes)} classes, {found.look.count:,} images: {parts}. Written by orchestrator init."),
        f"# Command:  orchestrator train {_quoted(path)}",
        f"# See first what it will do:  orchestrator plan {_quoted(path)}",
    ]
    body = block(recipe.data, recipe.why, ("data",))
    return "\n".join([*head, body + "".join(f"{line}\n" for part in advice for line in comment(part))])


def search_text(name: str, path: Path, job: Path, found: Survey, recipe: Recipe, machine: Machine) -> tuple[str, str]:
    """The search's YAML, and in a line what it will cost."""
    gpu = bool(machine.gpus)
    each = recipe.data["resources"]["cpus_per_worker"]
    at_once = machine.trials(recipe.worker)
    crowded = not gpu and at_once < machine.cpus
    rate = recipe.rate if gpu else recipe.rate / each
    epochs = min(recipe.data["epochs"], 30)
    grace = max(1 + recipe.data["model"].get("freeze_epochs", 0), epochs // 9)
    trial_s = _expected_epochs(epochs, grace) * found.parts["train"] / rate + _START_S
    end_s = recipe.data["epochs"] * found.parts["train"] / rate * max(1.0, 2 / at_once) + _START_S
    trials = int(max(_TRIALS[0], min(_TRIALS[1], _HOURS[gpu] * 3600 * at_once / trial_s)))
    seconds = trials * trial_s / at_once + end_s
    hours = max(_LEAST_HOURS, math.ceil(2 * seconds / 360) / 10)
    lr = recipe.data["optimizer"]["lr"]
    workers = recipe.data["resources"]["workers"]
    set_: dict[str, Any] = {"resources.workers": 1, "resources.cpus_per_worker": each if gpu else 1}
    set_ |= {"accumulation": workers} if workers > 1 else {}
    metric = "val/balanced_accuracy" if found.ratio >= UNEVEN else "val/top1"
    warmup = min(recipe.data["schedule"]["warmup_epochs"], round(epochs / 4, 1))
    data: dict[str, Any] = {
        "name": name,
        "job": str(job),
        "set": set_,
        "space": {
            "schedule.warmup_epochs": {"kind": "uniform", "low": 0.0, "high": round(epochs / 4, 1)},
            "batch.label_smoothing.epsilon": {"kind": "uniform", "low": 0.0, "high": 0.2},
            "batch.mixup.alpha": {"kind": "loguniform", "low": 0.02, "high": 1.0},
            "optimizer.lr": {"kind": "loguniform", "low": _short(lr / 5), "high": _short(lr * 5)},
        },
        "metric": metric,
        "searcher": {"kind": "tpe", "startup_trials": max(4, trials // 4)},
        "scheduler": {"kind": "asha", "grace_epochs": grace, "reduction_factor": _ETA},
        "budget": {"trials": trials, "epochs_per_trial": epochs, "hours": hours},
        **({"max_concurrent": at_once} if crowded else {}),
        "start_from": {
            "points": [
                {
                    "schedule.warmup_epochs": warmup,
                    "batch.label_smoothing.epsilon": 0.1,
                    "batch.mixup.alpha": 0.02,
                    "optimizer.lr": lr,
                }
            ]
        },
    }
    cost = f"{trials} trials, {at_once} at a time, then the best and the job in full: "
    cost += f"about {duration(seconds)} and at most {hours:g} hours"
    why = {
        "job": "the recipe that trials change",
        "set": ("a GPU a trial" if gpu else "one CPU a trial, so that many run at a time")
        + (f"; it computes the parts of the job's {workers} workers one after the other" if workers > 1 else ""),
        "space.schedule.warmup_epochs": "up to a quarter of a trial",
        "space.batch.label_smoothing.epsilon": "0 is without",
        "space.batch.mixup.alpha": "0.02 hardly mixes, 1 mixes everything",
        "space.optimizer.lr": "a fifth to five times that of the job",
        "metric": "of the validation split; the test split steers nothing"
        if metric == "val/top1"
        else "every class counts alike, for they are uneven; the test split steers nothing",
        "searcher": "the first trials are drawn by chance, later ones near the best",
        "scheduler": f"of the trials at epoch {grace}, the best third continues, and so forth",
        "budget": f"{cost}; a trial: {rate:,.0f} images/s, {recipe.how}",
        "max_concurrent": f"each takes about {byte_size(recipe.worker)} of memory" if crowded else "",
        "start_from": "the first trial is the job as it stands, with hardly any mixup",
    }
    head = [
        *comment(f"What helps on these images: {cost}."),
        f"# Command:  orchestrator search launch {_quoted(path)}",
    ]
    return "\n".join([*head, block(data, why, ("space",))]), cost


def _quoted(path: Path) -> str:
    """A path as it is pasted into a shell, from the folder of the command that writes it."""
    return shlex.quote(printable(str(path)))


def _expected_epochs(epochs: int, grace: int) -> float:
    """Epochs of a trial on average, under successive halving."""
    left, before, total, rung = 1.0, 0, 0.0, grace
    while rung < epochs:
        total += left * (rung - before)
        left, before, rung = left / _ETA, rung, rung * _ETA
    return total + left * (epochs - before)


def _short(value: float) -> float:
    return float(f"{value:.2g}")

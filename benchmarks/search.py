"""Trials an hour: the same 16 trials with a teacher as Ray's documentation would run them, and as a search of ours.

The whole command is timed, from the start of Python to its end. With --away ours runs with one thing taken away, too.
Goal: 10 times the documented pattern where a documented trial trains for about 3 s, with one worker or two
(--workers 2), and 5 times at about 45 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, SPREAD, Spread, header, number, options, out, recipe, table, workplace

SPACE = {"epsilon": [0.0, 0.05, 0.1, 0.2], "temperature": [1.0, 2.0, 4.0, 8.0]}
LENGTHS = {"3 s": (1, 640), "45 s": (5, 1920)}
"""Epochs and training images of a trial, by how long a documented one trains on one core of two."""
AWAY: dict[str, dict[str, Any]] = {
    "reuse of processes": {"reuse": False},
    "precision and layout": {"set": {"precision": "fp32", "channels_last": False}},
    "logit cache": {"logit_cache_mb": 0},
}
"""What is taken away, and how."""


def main() -> None:
    parser = options(__doc__, pairs=3)
    parser.add_argument("--length", choices=[*LENGTHS, "all"], default="all")
    parser.add_argument("--workers", type=int, choices=[1, 2], default=1, help="of a trial")
    parser.add_argument("--away", action="store_true", help="also with one thing taken away at a time")
    given = parser.parse_args()
    header(given)
    for length, (epochs, images) in LENGTHS.items():
        if given.length in (length, "all"):
            with workplace() as folder:
                _measure(given, folder, length, *((1, 256) if given.quick else (epochs, images)))


def _measure(given: Any, folder: Path, length: str, epochs: int, images: int) -> None:
    space = {name: values[:1] for name, values in SPACE.items()} if given.quick else SPACE
    trials = len(space["epsilon"]) * len(space["temperature"])
    job = _job(folder, images, epochs, given.workers)
    teacher = _teacher(folder, job)
    arms: dict[str, Mapping[str, Any]] = {"documented": {}, "ours": {}}
    if given.away:
        arms |= {f"ours without {what}": change for what, change in AWAY.items()}
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(1 if given.quick else given.pairs):
        for name in list(arms)[:: 1 if turn % 2 else -1]:
            place = folder / f"{name.replace(' ', '-')}-{turn}"
            place.mkdir()
            command, words = [sys.executable, "-m"], dict(arms[name])
            if name == "documented":
                command += ["benchmarks.documented", _documented(place, job, teacher, space, given.workers)]
            else:
                reuse = words.pop("reuse", True)
                command += ["benchmarks.search_once", _ours(place, job, teacher, space, words), str(reuse)]
            seconds = _time(command, place, trials * epochs)
            rates[name].append(trials / seconds * 3600)
            out.print(f"{length}, turn {turn}: {name} {seconds:.1f} s")
    form = number(0)
    rows = [[name, *Spread.of(values).cells(form)] for name, values in rates.items()]
    table(f"trials an hour, of {given.workers} workers, about {length} as documented", "how", SPREAD, rows)
    goal = "10" if length == "3 s" else "5"
    ratios = [["ours / documented", *Spread.ratio(rates["ours"], rates["documented"]).cells(number(2)), goal]]
    for name in list(arms)[2:]:
        ratios.append([f"{name} / ours", *Spread.ratio(rates[name], rates["ours"]).cells(number(2)), ""])
    table("ratios of trials an hour, by turns", "ratio", [*SPREAD, "goal at least"], ratios)


def _job(folder: Path, images: int, epochs: int, workers: int) -> Path:
    often = [
        "evaluation.every_epochs=1",
        "checkpoint.every_epochs=1",
        f"epochs={epochs}",
        f"resources.workers={workers}",
    ]
    changes = ["model.depth=8", "schedule.warmup_epochs=0", "evaluation.flip=false", *often]
    return recipe(folder, images, *changes, test=images // 10)  # ours tests every trial at its end, the documented none


def _teacher(folder: Path, job: Path) -> Path:
    """A ResNet-56 that knows nothing, which takes as long as one that does."""
    from pydantic import TypeAdapter

    from jobs import specfile
    from jobs.models import ModelSpec, save
    from jobs.spec import JobSpec

    data = specfile.read(job, JobSpec).data.open()
    model: Any = TypeAdapter(ModelSpec).validate_python({"kind": "resnet", "depth": 56})
    preprocessing = {"size": data.test_size, "crop_ratio": data.crop_ratio, "channels": data.channels}
    preprocessing |= {"mean": data.mean, "std": data.std, "flip": False}
    network = model.build(len(data.classes), data.channels)
    save(str(folder / "teacher"), network, model.model_dump(mode="json"), data.classes, preprocessing, {})
    return folder / "teacher"


def _documented(place: Path, job: Path, teacher: Path, space: Mapping[str, Sequence[float]], workers: int) -> str:
    given = {"job": str(job), "teacher": str(teacher), "storage": str(place / "storage"), "workers": workers}
    given["space"] = space
    (place / "given.json").write_text(json.dumps(given), encoding="utf-8")
    return str(place / "given.json")


def _ours(
    place: Path, job: Path, teacher: Path, space: Mapping[str, Sequence[float]], changes: Mapping[str, Any]
) -> str:
    names = {"epsilon": "batch.label_smoothing.epsilon", "temperature": "distillation.temperature"}
    spec = {
        "name": "search",
        "job": str(job),
        "set": {
            "distillation": {"teacher": {"kind": "model", "path": str(teacher)}},
            "batch": [{"kind": "label_smoothing", "epsilon": 0.1}],
            **changes.get("set", {}),
        },
        "space": {names[name]: {"kind": "choice", "values": values} for name, values in space.items()},
        "searcher": {"kind": "grid"},
        **{name: value for name, value in changes.items() if name != "set"},
    }
    (place / "search.yaml").write_text(json.dumps(spec), encoding="utf-8")
    return str(place / "search.yaml")


def _time(command: list[str], place: Path, epochs: int) -> float:
    environment = {**os.environ, "ORCHESTRATOR_HOME": str(place / "home"), "PYTHONPATH": str(ROOT)}
    # MLflow's database is made beforehand: whoever has ever run a job has one
    make = "from orchestrator.home import default_uri, home; from orchestrator.tracking.mlflow import connect; "
    make += "connect(default_uri(), home() / 'mlruns')"
    subprocess.run([sys.executable, "-c", make], env=environment, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    began = time.monotonic()
    with (place / "log").open("w") as log:
        code = subprocess.run(command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT).returncode
    seconds = time.monotonic() - began
    told = (place / "log").read_text(encoding="utf-8")
    if code or f"epochs {epochs}\n" not in told:
        sys.exit(f"{' '.join(command)} ended with {code} and not all of its {epochs} epochs:\n{told[-3000:]}")
    return seconds


if __name__ == "__main__":
    main()

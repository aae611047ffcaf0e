"""Writes ``docs/gpu.md`` from the rows."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from benchmarks.gpu.cell import Row
from benchmarks.gpu.rows import read

STAGES = ("correct", "wait", "again", "fast", "feed", "onray", "full")
"""In order of worth; each is a module of this package."""
_ABOUT = {"stage", "cell", "date", "seconds", "device", "quick", "card", "driver", "torch", "cuda", "python", "ok"}

HEAD = """# On a GPU

    python -m benchmarks.gpu -o FOLDER                    # all stages, those worth most first; 8 minutes (--minutes)
    python -m benchmarks.gpu -o FOLDER --only fast        # one of them: {stages}
    python -m benchmarks.gpu -o FOLDER --retry            # what failed is asked again
    python -m benchmarks.gpu -o docs --table              # writes this page from docs/gpu.jsonl

Each result is a line of `FOLDER/gpu.jsonl` as soon as it is known. What is there is passed over, so the next quarter
of an hour, on another day, resumes where the last one ended. A cell that raises, crashes or hangs becomes a row that
says so. `--device cpu --quick` rehearses all of it without a GPU.

What the machine needs: one CUDA GPU, Python 3.11 or newer, torch, torchvision, timm, scikit-learn, scipy, pyarrow,
Pillow, pytest, and for stages 1 to 5 pydantic, ruamel.yaml, safetensors, fsspec and psutil beside them. Stage 6 needs
all that `pyproject.toml` names, with the extra `search`. Without a network, bring what is missing as a folder of
packages and say where it is: `PYTHONPATH=PACKAGES:. python3 -m benchmarks.gpu -o FOLDER`. Stage 7 needs the folder of
CIFAR-10's `train.parquet`, and `test.parquet` if it is to be scored on that, in `CIFAR10_PARQUET`; without the latter
a tenth of the former is held out. Copy `FOLDER` to the machine before, and back afterwards: `teacher/` and `runs/` in
it are what stage 7 resumes from.

Tests that need a GPU: `pytest -m gpu`; they are skipped where there is none.

## What was measured

"""
NOTHING = """Nothing yet: no line of this has run on a GPU. It was rehearsed on CPUs, which says that it works and
nothing about a GPU.
"""
NEVER = """
## What never was

- Several GPUs in one machine, several machines with GPUs, and NCCL between them: every figure here is of one GPU.
- Cards and drivers other than those in the rows; GPUs of other makers.
- ImageNet itself: 224-pixel images are made up, and nothing is said about their accuracy.

## What to know

- `precision: fp32` leaves torch's default: convolutions may use TF32, other products do not. Stage 1 switches TF32
  off to compare.
- What waits for the device, on purpose: the end of an epoch, an evaluation, a checkpoint; and fp16 with an optimizer
  that has no fused form here (all but SGD, Adam and AdamW), at every update.
- Dropout and stochastic depth draw on the device: a GPU draws other numbers than a CPU. All else draws the same.
- Two rows of stage 1 say *no*. A network of width 1 loses 4.6 times in float32 of what it loses on a CPU, where 4 times
  are allowed. A clipped AdamW, whose first steps have the gradients' signs, ends 3e-3 apart in its loss, where 2e-3 are
  allowed; a CPU's own two memory layouts end 4e-3 apart there.
- Rows of loader processes that feed no network, of 2026-11-27: the loop's process had 16 threads of OpenMP then, which
  took the cores of the loader processes (docs/log.md). It has one now, which was not measured on a GPU.
- Out of GPU memory: a job of one worker fails at once, exit code 1, and says what to lower. With several workers the
  others have to be ended first, so it is tried `max_failures` times more.
"""


def text(folder: Path) -> str:
    """The page."""
    rows = [row for row in read(folder) if row["device"] == "cuda" and not row["quick"]]
    head = HEAD.format(stages=", ".join(f"`{name}`" for name in STAGES))
    return head + ("\n".join(_measured(rows)) + "\n" if rows else NOTHING) + NEVER


def _measured(rows: Sequence[Row]) -> Iterator[str]:
    machines = sorted({_machine(row) for row in rows})
    yield from (f"- {letter}: {machine}" for letter, machine in zip(ascii_uppercase, machines, strict=False))
    yield ""
    for name in STAGES:
        stage = importlib.import_module(f"benchmarks.gpu.{name}").STAGE
        latest = {row["cell"]: row for row in rows if row["stage"] == name}
        yield f"### {name}: {stage.title}"
        yield ""
        if not latest:
            yield "Not measured yet."
        else:
            yield from (_full(list(latest.values())) if name == "full" else ())
            yield "Of repeated measurements: the median, with the smallest and the largest."
            yield ""
            yield "| | holds | what came out | s | on | date |"
            yield "|---|---|---|---|---|---|"
            yield from (_line(row, ascii_uppercase[machines.index(_machine(row))]) for row in latest.values())
        yield ""


def _machine(row: Row) -> str:
    return f"{row['card']}, driver {row['driver']}, torch {row['torch']}, CUDA {row['cuda']}, Python {row['python']}"


def _line(row: Row, where: str) -> str:
    holds = "failed" if "error" in row else {True: "yes", False: "**no**", None: ""}[row.get("ok")]
    told = "; ".join(f"{name} {_value(value)}" for name, value in row.items() if name not in _ABOUT)
    cells = (row["cell"], holds, told, f"{row['seconds']:g}", where, row["date"][:10])
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_value(inner)}" for name, inner in value.items()) + ")" if value else "none"
    if isinstance(value, list) and len(value) == 3 and all(isinstance(each, float) for each in value):
        return "{} ({} .. {})".format(*(f"{each:,.0f}" if each >= 1000 else f"{each:.4g}" for each in value))
    return f"{value:.3g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _full(rows: Sequence[Row]) -> Iterator[str]:
    """Mean differences to the baseline in points of accuracy, of pairs with equal seeds."""
    from tuning.studies.statistics import compare

    scores: dict[str, dict[int, float]] = {}
    for row in rows:
        if "top1" in row and row["arm"] != "teacher":
            scores.setdefault(row["arm"], {})[row["seed"]] = 100 * row["top1"]
    base = scores.pop("baseline", {})
    pairs = {arm: [of[seed] - base[seed] for seed in sorted(of) if seed in base] for arm, of in scores.items()}
    several = {arm: values for arm, values in pairs.items() if len(values) > 1}
    if not several:
        return
    mean = sum(base.values()) / len(base)
    yield f"Baseline: {mean:.2f} % test accuracy, mean of {len(base)} seeds."
    yield ""
    yield "| trick alone | difference, points | 95 % interval, Holm | pairs | verdict |"
    yield "|---|---|---|---|---|"
    for arm, got in sorted(compare(several).items(), key=lambda item: -item[1].mean):
        verdict = ("helps" if got.mean > 0 else "hurts") if got.different else "no difference seen"
        span = f"{got.low:+.2f} to {got.high:+.2f}"
        yield f"| {arm.replace('_', ' ')} | {got.mean:+.2f} | {span} | {got.pairs} | {verdict} |"
    yield ""

"""Does a trick help? Every recipe of ``jobs/recipes/cifar10`` against its baseline, on a small budget, by paired seeds.

    python -m benchmarks.learning            # resumes where it was stopped, then prints the table
    python -m benchmarks.learning --table    # the table alone

What is shortened: ResNet-8 instead of ResNet-20, 10,000 stratified training images (1,000 of them for validation), 6
epochs instead of 30 with warmup and decay steps at the same shares of the run. The whole test set is scored.
Pairs share both seeds. Raw numbers go to ``docs/learning.jsonl``, one line a run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import cifar10

RECIPES = Path("jobs/recipes/cifar10")
RAW = Path("docs/learning.jsonl")
EPOCHS, IMAGES, DEPTH, SEEDS = 6, 10_000, 8, 5
NOT_ARMS = ("teacher", "stack")


def arms() -> list[str]:
    """Names of the recipes, the baseline first."""
    names = sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem not in NOT_ARMS)
    return ["baseline", *(name for name in names if name != "baseline")]


def spec_of(arm: str, seed: int, train: Path, test: Path, teacher: Path) -> Any:
    """The recipe, shortened."""
    from jobs import specfile
    from jobs.spec import JobSpec

    spec = specfile.read(RECIPES / f"{arm}.yaml", JobSpec)
    scale = EPOCHS / spec.epochs
    changes: dict[str, Any] = {
        "data": {"kind": "parquet", "train": str(train), "test": str(test)},
        "model.depth": DEPTH if arm != "teacher" else 20,
        "epochs": EPOCHS,
        "schedule.warmup_epochs": spec.schedule.warmup_epochs * scale,
        "resources.workers": 1,
        "seed": {"init": seed, "data": seed},
        "evaluation.every_epochs": EPOCHS,
    }
    if spec.schedule.decay.kind == "step":
        changes["schedule.decay.at_epochs"] = [at * scale for at in spec.schedule.decay.at_epochs]
    if spec.distillation is not None:
        changes["distillation.teacher"] = {"kind": "model", "path": str(teacher)}
    return spec.override(changes)


def subset(source: Path, target: Path) -> None:
    """The first images of each class, as many of each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(source)
    labels = table.column("label").to_pylist()
    count: dict[int, int] = {}
    rows = []
    for row, label in enumerate(labels):
        if count.get(label, 0) < IMAGES // 10:
            count[label] = count.get(label, 0) + 1
            rows.append(row)
    pq.write_table(table.take(pa.array(rows)), target)


def run(task: tuple[str, int, str]) -> dict[str, Any]:
    """One run, in a worker process of one thread."""
    import torch

    from jobs.outcome import keep_model
    from jobs.place import Place
    from jobs.report import Keep
    from jobs.train import train

    arm, seed, folder = task
    torch.set_num_threads(1)
    base = Path(folder)
    spec = spec_of(arm, seed, base / "train.parquet", test_file(), base / "teacher")
    data = spec.data.open()
    began = time.monotonic()
    outcome = train(spec, Place(), Keep(), {"data": data, "teacher": str(base / "teacher")})
    assert outcome.test is not None
    if arm == "teacher":
        keep_model(str(base / "teacher"), outcome, data)
    return {"arm": arm, "seed": seed, "top1": outcome.test.top1, "seconds": round(time.monotonic() - began, 1)}


def test_file() -> Path:
    """The test split."""
    return cifar10() / "test.parquet"


def done() -> list[dict[str, Any]]:
    """The runs measured so far."""
    return [json.loads(line) for line in RAW.read_text().splitlines()] if RAW.exists() else []


def measure() -> None:
    """Run what is missing, two at a time, seed by seed."""
    known = {(row["arm"], row["seed"]) for row in done()}
    tasks = [(arm, seed) for seed in range(SEEDS) for arm in arms() if (arm, seed) not in known]
    if not tasks:
        return
    for name, value in (("OMP_NUM_THREADS", "1"), ("MALLOC_MMAP_THRESHOLD_", "1073741824")):
        os.environ[name] = value
    os.environ |= {"MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "67108864"}
    with tempfile.TemporaryDirectory() as folder:
        subset(cifar10() / "train.parquet", Path(folder) / "train.parquet")
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            teacher = pool.apply(run, (("teacher", 0, folder),))
            print(f"teacher {teacher['top1']:.4f} in {teacher['seconds']:.0f} s", flush=True)
            for row in pool.imap_unordered(run, [(arm, seed, folder) for arm, seed in tasks]):
                with RAW.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{row['arm']:<16} seed {row['seed']}  {row['top1']:.4f}  {row['seconds']:.0f} s", flush=True)


def table() -> Iterator[str]:
    """Mean difference to the baseline in points of test accuracy; intervals leave out 0 where Holm's test does."""
    from tuning.studies.statistics import compare

    scores: dict[str, dict[int, float]] = {}
    for row in done():
        scores.setdefault(row["arm"], {})[row["seed"]] = 100 * row["top1"]
    base = scores.pop("baseline")
    pairs = {arm: [s[seed] - base[seed] for seed in sorted(s) if seed in base] for arm, s in scores.items()}
    results = compare({arm: values for arm, values in pairs.items() if len(values) > 1})
    mean = sum(base.values()) / len(base)
    ends = f"{min(base.values()):.2f} to {max(base.values()):.2f}"
    yield f"Baseline: {mean:.2f} % test accuracy, mean of {len(base)} seeds ({ends})."
    yield ""
    yield "| trick alone | difference, points | 95 % interval, Holm | pairs | verdict |"
    yield "|---|---|---|---|---|"
    for arm, got in sorted(results.items(), key=lambda item: -item[1].mean):
        verdict = ("helps" if got.mean > 0 else "hurts") if got.different else "no difference seen"
        interval = f"{got.low:+.2f} to {got.high:+.2f}"
        yield f"| {arm.replace('_', ' ')} | {got.mean:+.2f} | {interval} | {got.pairs} | {verdict} |"


def main() -> None:
    """Measure, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--table", action="store_true", help="print the table of what was measured, and measure nothing"
    )
    if not parser.parse_args().table:
        measure()
    print("\n".join(table()))


if __name__ == "__main__":
    main()

"""Fine-tuning is worth it: a network trained on CIFAR-10's first five classes learns its last five from few images,
far better than a fresh one with the same images and updates."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.models import finetune
from jobs.outcome import keep_model
from jobs.place import Place
from jobs.report import Keep
from jobs.spec import JobSpec
from jobs.train import train
from tests.jobs.pretrained import tuned

CIFAR10 = Path(os.environ.get("CIFAR10_PARQUET") or "../shared/data/cifar10")
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def subset(path: Path, split: str, first: int, each: int) -> str:
    """A parquet file with ``each`` images of each of five classes from ``first`` on, numbered from 0."""
    table = pq.read_table(CIFAR10 / f"{split}.parquet")
    labels = table["label"].to_pylist()
    left = dict.fromkeys(range(first, first + 5), each)
    rows = []
    for row, label in enumerate(labels):
        if left.get(label, 0):
            left[label] -= 1
            rows.append(row)
    assert not any(left.values())
    found = table.take(rows)
    column = pa.array([labels[row] - first for row in rows], pa.int64())
    found = pa.table({"image": found["image"], "label": column})
    classes = {"_type": "ClassLabel", "names": list(NAMES[first : first + 5])}
    told = {"info": {"features": {"image": {"_type": "Image"}, "label": classes}}}
    pq.write_table(found.replace_schema_metadata({"huggingface": json.dumps(told)}), path)
    return str(path)


def job(folder: Path, first: int, each: int, **changes: Any) -> JobSpec:
    base = {
        "name": "learns",
        "data": {
            "kind": "parquet",
            "train": subset(folder / f"train-{first}.parquet", "train", first, each),
            "test": subset(folder / f"test-{first}.parquet", "test", first, 400),
            "size": 24,
        },
        "model": {"kind": "resnet", "depth": 8},
        "augment": [{"kind": "flip"}],
        "optimizer": {"kind": "sgd", "lr": 0.1, "weight_decay": 5e-4},
        "schedule": {"warmup_epochs": 1, "decay": {"kind": "cosine"}},
        "epochs": 8,
        "batch_size": 32,
        "precision": "fp32",
    }
    return JobSpec.model_validate(base).override({name.replace("__", "."): value for name, value in changes.items()})


@pytest.mark.usefixtures("cifar10_parquet")
def test_five_other_classes_are_a_better_start_than_none(tmp_path: Path) -> None:
    """Both see 25 images a class for 8 epochs; the fresh network gets the better of two learning rates."""
    before = job(tmp_path, 0, 700)
    data = before.data.open()
    outcome = train(before, Place(), Keep(), {"data": data})
    keep_model(str(tmp_path / "model"), outcome, data)
    assert outcome.test is not None and outcome.test.top1 > 0.6

    fresh = job(tmp_path, 5, 25, batch_size=16)
    start = {"kind": "model", "path": str(tmp_path / "model")}
    tuning = fresh.override({"model.pretrained": start, "model.freeze_epochs": 1, "optimizer.layer_decay": 0.8})
    assert finetune.resolve(tuning).data.mean == pytest.approx(data.mean)
    best = max(top1(fresh.override({"optimizer.lr": lr})) for lr in (0.03, 0.1))
    assert top1(tuning) > best + 0.07
    assert top1(tuning.override({"seed.data": 1})) > best + 0.07


def top1(spec: JobSpec) -> float:
    told = tuned(spec).test
    assert told is not None and told.count == 2000
    return told.top1

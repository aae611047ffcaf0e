"""A small job on real digits that tests change as they need."""

from __future__ import annotations

from typing import Any

from jobs.spec import JobSpec

BASE: dict[str, Any] = {
    "name": "test",
    "data": {"kind": "digits"},
    "model": {"kind": "cnn", "width": 8},
    "augment": [{"kind": "crop", "padding": 1}],
    "batch": [{"kind": "label_smoothing"}, {"kind": "mixup"}],
    "optimizer": {"kind": "sgd", "lr": 0.05, "weight_decay": 5e-4},
    "schedule": {"warmup_epochs": 1},
    "epochs": 3,
    "batch_size": 64,
    "precision": "fp32",
}


def job(**changes: Any) -> JobSpec:
    """The job with changes by dotted name, ``__`` for the dot."""
    return JobSpec.model_validate(BASE).override({name.replace("__", "."): value for name, value in changes.items()})

"""The loop on a pretended CUDA device: no operation has tensors of two devices, and no update waits for the device."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import jobs.train
from jobs import precision
from jobs.checkpoint import State
from jobs.data.loader import Loader
from jobs.logits.store import LogitCache
from jobs.models import save
from jobs.place import Place
from jobs.report import Keep
from jobs.spec import JobSpec
from tests.jobs.pretended import CUDA, Device, pretended

BASE: dict[str, Any] = {
    "name": "pretended",
    "data": {"kind": "synthetic", "samples": 120, "size": 16},
    "model": {"kind": "resnet", "depth": 8, "variant": "D"},
    "augment": [{"kind": "crop"}, {"kind": "flip"}],
    "optimizer": {"kind": "sgd", "lr": 0.05},
    "epochs": 2,
    "batch_size": 16,
    "precision": "fp32",
}
MIXING = [{"kind": kind, "share": 0.3} for kind in ("mixup", "cutmix", "ricap")]
STREAMED = {**BASE["data"], "in_memory": False, "loader_workers": 0}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "streamed": {"data": STREAMED},
    "streamed and cut": {"data": STREAMED, "augment": [{"kind": "random_resized_crop"}, {"kind": "flip"}]},
    "batch tricks": {"batch": [{"kind": "cutout", "size": 8}, {"kind": "random_erasing", "fill": "noise"}, *MIXING]},
    "mixup a sample": {"batch": [{"kind": "mixup", "per": "sample"}, {"kind": "label_smoothing"}]},
    "policies": {"augment": [{"kind": "auto_augment", "policy": "cifar10"}, {"kind": "trivial_augment"}]},
    "colours": {"augment": [{"kind": "random_resized_crop"}, {"kind": "color_jitter"}, {"kind": "pca_noise"}]},
    "average, accumulation, best": {"ema": {}, "accumulation": 2, "select": "best"},
    "fp16": {"precision": "fp16", "optimizer": {"kind": "adamw", "lr": 1e-3, "clip_norm": 1.0}},
    "AdaBound": {"optimizer": {"kind": "adabound", "lr": 1e-3, "amsbound": True}},
    "NAdam": {"optimizer": {"kind": "torch", "name": "NAdam", "lr": 1e-3}},
    "BCE, weights, balance": {
        "loss": {"kind": "bce"},
        "data": {**BASE["data"], "class_weights": "balanced", "balanced_sampling": True},
        "evaluation": {"flip": True},
        "channels_last": False,
    },
}


def job(**changes: Any) -> JobSpec:
    return JobSpec.model_validate({**BASE, **changes})


def trained(spec: JobSpec, assets: dict[str, Any] | None = None, start: State | None = None) -> tuple[list[str], Keep]:
    """What its updates waited for, and what it reported."""
    seen: list[str] = []

    def watched(device: Device) -> type[Loader]:
        class Watched(Loader):
            def epoch(self, epoch: int, done: int) -> Iterator[Any]:
                before = len(device.waits)
                yield from super().epoch(epoch, done)
                seen.extend(device.waits[before:])

        return Watched

    data, keep = spec.data.open(), Keep()
    with pretended() as device, mock.patch.object(jobs.train, "Loader", watched(device)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*to a meta parameter")
        jobs.train.train(spec, Place(device=CUDA), keep, {"data": data, **(assets or {})}, start)
    return seen, keep


def test_it_tells_what_a_gpu_would_refuse_and_wait_for() -> None:
    with pretended() as device:
        x = torch.arange(3.0, device=CUDA)
        assert not device.waits
        assert float(x[1]) == 1.0 and len(device.waits) == 1
        with pytest.raises(RuntimeError, match="tensors on cuda and on the CPU"):
            x + torch.ones(3)
        torch.ones(2**15).to(CUDA, non_blocking=True)
        assert len(device.waits) == 2
        torch.ones(2**15).pin_memory().to(CUDA, non_blocking=True)
        assert len(device.waits) == 2


@pytest.mark.parametrize("name", CASES)
def test_no_update_waits_nor_mixes_devices_and_the_numbers_are_the_cpu_s(name: str) -> None:
    spec = job(**CASES[name])
    waits, keep = trained(spec)
    assert waits == []
    here = Keep()
    jobs.train.train(spec, Place(), here, {"data": spec.data.open()})
    if "noise" not in str(spec.batch):  # which is drawn on the device
        assert keep.series("train/loss") == pytest.approx(here.series("train/loss"), rel=1e-3)


def test_the_peak_of_memory_is_not_that_of_an_earlier_run() -> None:
    _, keep = trained(job())
    assert keep.series("peak_memory_mb") == {1: 0.0, 2: 0.0}


def test_a_job_leaves_it_to_the_next_in_its_process_to_be_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch looks once for what it needs, when a process first multiplies (``alertCuBLASConfigNotDeterministic``)."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with pretended(), precision.backends(job(), CUDA):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize("name", ["plain", "fp16", "NAdam", "average, accumulation, best"])
def test_nor_does_a_resumed_run(name: str) -> None:
    _, keep = trained(job(**CASES[name], checkpoint={"every_steps": 2}))
    waits, _ = trained(job(**CASES[name]), start=keep.checkpoints[0])
    assert waits == []


def test_nor_a_teacher_whose_answers_are_computed_kept_or_read(tmp_path: Path) -> None:
    spec = job(distillation={"teacher": {"kind": "model", "path": str(tmp_path / "teacher")}})
    told = {"size": 16, "channels": 3, "mean": [0.4] * 3, "std": [0.2] * 3}
    data = spec.data.open()
    save(tmp_path / "teacher", spec.model.build(10, 3), spec.model.model_dump(mode="json"), data.classes, told)
    read = []
    for keeps in (False, True, True):
        cache = LogitCache(tmp_path / "logits", 2**24) if keeps else None
        waits, _ = trained(spec, {"teacher": str(tmp_path / "teacher"), "logits": cache})
        assert waits == []
        if cache is not None:
            read.append(cache.read)
            cache.close()
    assert read[0] == 0 and read[1] > 0

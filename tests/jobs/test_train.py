"""The loop: what it promises about workers, parts, kills and non-finite losses, on real digits."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import models
from jobs.checkpoint import State, Store
from jobs.data.loader import Loader
from jobs.divergence import NonFiniteLossError
from jobs.outcome import keep_model
from jobs.place import Place
from jobs.randomness import order, repeated
from jobs.report import CONTINUE, STOP, Keep, Progress, Verdict
from jobs.run import Run
from jobs.spec import JobSpec
from jobs.train import train
from tests import world
from tests.jobs.digits_job import job


class StopAt(Keep):
    """Keeps, and says STOP once that many updates are done."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def progress(self, progress: Progress) -> Verdict:
        time.sleep(0.4)  # updates this slow are exchanged one by one, so the run stops near the step that is asked for
        return STOP if progress.step >= self.step else CONTINUE


def final_weights(spec_json: str, store: str | None = None, stop_at: int | None = None) -> dict[str, Any]:
    """One rank's run, from the newest checkpoint of ``store`` on: weights, step, train losses by epoch."""
    spec = JobSpec.model_validate_json(spec_json)
    place = Place.current(use_gpu=False)
    checkpoints = Store(store, keep=10) if store else None
    start = place.broadcast(checkpoints.newest() if checkpoints and place.rank == 0 else None)
    report = StopAt(stop_at) if stop_at else Keep()
    outcome = train(spec, place, report, {"data": spec.data.open()}, start)
    for state in report.checkpoints:
        if checkpoints:
            checkpoints.save(state)
            checkpoints.wait()
    weights = dict(outcome.network.state_dict()) if outcome.network else {}
    losses = [record.value for record in report.records if record.name == "train/loss"]
    return {"weights": weights, "step": outcome.step, "ended_by": outcome.ended_by, "losses": losses}


@functools.cache
def undisturbed(spec_json: str, ranks: int) -> dict[str, Any]:
    """Rank 0's run from beginning to end, which several tests compare with."""
    return world.run(ranks, final_weights, spec_json)[0]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def furthest(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def test_learns_digits_and_what_is_kept_can_be_loaded(tmp_path: Path) -> None:
    spec, report = job(epochs=6, ema={"decay": 0.98}, select="best", model__width=16), Keep()
    data = spec.data.open()
    before = data.train.images.copy()
    outcome = train(spec, Place(), report, {"data": data})
    assert outcome.ended_by == "epochs"
    assert outcome.test is not None and outcome.test.top1 > 0.9 and outcome.test.count == len(data.test)
    assert sorted(report.series("val/top1")) == [1, 2, 3, 4, 5, 6]
    assert list(report.series("test/top1").values()) == [outcome.test.top1]
    assert (before == data.train.images).all(), "augmentation wrote into the shared images"
    keep_model(str(tmp_path / "model"), outcome, data)
    loaded = models.load(str(tmp_path / "model"))
    right = loaded.predict(data.test.images).argmax(1) == data.test.labels
    assert right.mean() == pytest.approx(outcome.test.top1, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("stop_at", [7, None], ids=["inside-an-epoch", "at-epoch-ends"])
def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path: Path, ranks: int, stop_at: int | None) -> None:
    spec = job(resources__workers=ranks, ema={"decay": 0.9}, checkpoint__every_steps=5)
    whole = undisturbed(spec.model_dump_json(), ranks)
    store = str(tmp_path / "checkpoints")
    if stop_at:
        part = world.run(ranks, final_weights, spec.model_dump_json(), store, stop_at)[0]
        assert part["ended_by"] == "stopped" and stop_at <= part["step"] < whole["step"]
    else:
        world.run(ranks, final_weights, spec.model_dump_json(), store)
        steps = Store(store).steps()
        checkpoints = Store(store, keep=1)
        for step in steps[1:]:
            checkpoints.fs.rm(f"{checkpoints.path}/step_{step:09d}", recursive=True)
    rest = world.run(ranks, final_weights, spec.model_dump_json(), store)[0]
    assert rest["step"] == whole["step"]
    assert same(rest["weights"], whole["weights"])
    assert rest["losses"][-1] == whole["losses"][-1]


def test_two_workers_equal_one_with_two_parts() -> None:
    common = {"precision": "fp64", "model__norm": False, "augment__crop__padding": 2}
    one = world.run(1, final_weights, job(accumulation=2, **common).model_dump_json())[0]
    two = world.run(2, final_weights, job(resources__workers=2, **common).model_dump_json())
    assert one["step"] == two[0]["step"] > 50
    assert same(two[0]["weights"], two[1]["weights"])
    assert furthest(one["weights"], two[0]["weights"]) < 1e-8


@pytest.mark.slow
def test_a_run_goes_on_with_fewer_workers_in_mid_epoch(tmp_path: Path) -> None:
    common = {"precision": "fp64", "model__norm": False}
    spec = job(resources__workers={"min": 1, "max": 2}, checkpoint__every_steps=5, **common)
    two, one = spec.trained_by(2).model_dump_json(), spec.trained_by(1).model_dump_json()
    whole = undisturbed(two, 2)
    store = str(tmp_path / "checkpoints")
    part = world.run(2, final_weights, two, store, 7)[0]
    assert part["ended_by"] == "stopped" and 7 <= part["step"] < whole["step"]
    rest = world.run(1, final_weights, one, store)[0]
    assert rest["step"] == whole["step"]
    assert furthest(rest["weights"], whole["weights"]) < 1e-8
    assert rest["losses"] == pytest.approx(whole["losses"], rel=1e-8), "also that of the epoch that both had a part in"


def test_accumulation_changes_nothing_without_batch_tricks() -> None:
    common = {"precision": "fp64", "model__norm": False, "batch": []}
    four = world.run(1, final_weights, job(accumulation=4, **common).model_dump_json())[0]
    one = world.run(1, final_weights, job(**common).model_dump_json())[0]
    assert furthest(one["weights"], four["weights"]) < 1e-8


def test_repeated_augmentation_shows_each_image_more_than_once() -> None:
    spec = job(epochs=1, schedule__warmup_epochs=0, repeats=4, batch=[])
    data = spec.data.open()
    loader = Loader(spec, data, Place(), spec.steps(len(data.train)))
    _, parts = next(loader.epoch(0, 0))
    _, x, labels = next(parts)
    visits = repeated(order(0, 0, len(data.train)), 4, 64)[:64]
    assert labels.tolist() == data.train.labels[visits.numpy() % len(data.train)].tolist()
    assert len((visits % len(data.train)).unique()) == 16 and len(x.unique(dim=0)) > 40, "crops of their own"
    outcome = train(spec, Place(), Keep(), {"data": data})
    assert outcome.step == spec.steps(len(data.train)).total


def test_a_non_finite_loss_says_when_and_at_which_rate() -> None:
    spec = job(optimizer__lr=1e30, schedule__warmup_epochs=0, batch=[])
    with pytest.raises(NonFiniteLossError, match=r"loss is \w+ at update \d of 60 \(lr [\d.]+e\+29\)"):
        train(spec, Place(), Keep(), {"data": spec.data.open()})


def test_divergence_that_no_training_loss_shows_is_an_error_too() -> None:
    """The last update of an epoch overflows: the losses before it are finite, what is scored and kept is not."""
    last = job(epochs=1, schedule__warmup_epochs=0, batch_size=1024, batch=[], optimizer__weight_decay=1e30)
    data, report = last.data.open(), Keep()
    with pytest.raises(NonFiniteLossError, match=r"val/loss is \w+ at update 1 of 1 \(lr 0.05\); no training loss"):
        train(last, Place(), report, {"data": data})
    assert not report.checkpoints and not report.series("val/top1")
    unseen = last.override({"epochs": 2, "evaluation.every_epochs": 2, "optimizer.lr": 1e12})
    with pytest.raises(NonFiniteLossError, match="weights are not finite at update 1 of 2"):
        train(unseen, Place(), report, {"data": data})
    assert not report.checkpoints


def diverging(spec_json: str) -> dict[str, Any]:
    """One rank's run whose learning rate is absurd in its third epoch."""
    plain = JobSpec.lr_at
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            JobSpec, "lr_at", lambda self, update, steps: plain(self, update, steps) if update <= 40 else 1e30
        )
        spec, report = JobSpec.model_validate_json(spec_json), Keep()
        outcome = train(spec, Place.current(use_gpu=False), report, {"data": spec.data.open()})
    assert outcome.network is not None and outcome.test is not None and outcome.test.count == 360
    kept = {str(state.step): state.tree["network"] for state in report.checkpoints}
    records = {name: report.series(name) for name in ("val/top1", "test/top1")}
    weights = dict(outcome.network.state_dict())
    return {"weights": weights, "kept": kept, "records": records, "ended_by": outcome.ended_by, "why": outcome.diverged}


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_best_epoch_before_a_divergence_is_kept_where_it_was_asked_for(ranks: int) -> None:
    spec = job(epochs=4, schedule__warmup_epochs=0, batch=[], select="best", resources__workers=ranks)
    first, *others = world.run(ranks, diverging, spec.model_dump_json())
    top1 = first["records"]["val/top1"]
    assert list(top1) == [1, 2] and list(first["records"]["test/top1"]) == [3]
    best = max(top1, key=lambda epoch: top1[epoch])
    assert first["ended_by"] == "diverged"
    assert (
        first["why"].endswith(f"The weights of epoch {best}, the best before, are kept") and "update 4" in first["why"]
    )
    assert all(torch.equal(first["weights"][name], value) for name, value in first["kept"][str(20 * best)].items())
    for other in others:
        assert all(torch.equal(other["weights"][name], value) for name, value in first["weights"].items())
    if ranks == 1:
        with pytest.raises(RuntimeError, match="NonFiniteLossError: loss is"):
            world.run(1, diverging, spec.model_copy(update={"select": "last"}).model_dump_json())


def test_a_test_loss_that_is_not_finite_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = job(epochs=1, schedule__warmup_epochs=0)
    data, every = spec.data.open(), Run.select

    def broken(run: Run) -> torch.nn.Module:
        network = every(run)
        for parameter in network.parameters():
            parameter.data.fill_(torch.inf)
        return network

    monkeypatch.setattr(Run, "select", broken)
    with pytest.raises(NonFiniteLossError, match="test/loss is nan at update 20 of 20"):
        train(spec, Place(), Keep(), {"data": data})


def test_early_stopping_and_budget_end_cleanly() -> None:
    early = job(epochs=30, optimizer__lr=1e-6, early_stopping__patience_epochs=2)
    outcome = train(early, Place(), Keep(), {"data": early.data.open()})
    assert outcome.ended_by == "early_stopping" and outcome.test is not None
    short = job(epochs=1000, budget__hours=1e-4)
    outcome = train(short, Place(), Keep(), {"data": short.data.open()})
    assert outcome.ended_by == "budget" and outcome.test is not None


def test_rises_below_min_delta_add_up() -> None:
    spec = job(early_stopping={"patience_epochs": 3, "min_delta": 0.002})
    data = spec.data.open()
    run = Run(spec, data, Place(), spec.steps(len(data.train)), {"data": data})
    for epoch in range(1, 20):
        run.judge(0.5 + 0.0015 * epoch, epoch)
        assert run.finished() is None, epoch
    again = Run(spec, data, Place(), run.steps, {"data": data}, run.state())
    for one in (run, again):
        stale = [one.stale_epochs]
        for epoch in range(20, 23):
            one.judge(0.5285, epoch)
            stale.append(one.stale_epochs)
        assert stale == [0, 1, 2, 3] and one.finished() == "early_stopping" and one.best[1] == 19


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp64"])
def test_other_precisions_learn(precision: str) -> None:
    spec = job(precision=precision, epochs=4, optimizer__clip_norm=5.0)
    outcome = train(spec, Place(), Keep(), {"data": spec.data.open()})
    assert outcome.test is not None and outcome.test.top1 > 0.5


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for step in (1, 2):
        store.save(State(step, {"x": torch.full((3,), float(step)), "n": {0: [1, None, "a"]}}))
    store.wait()
    newest = store.newest()
    assert newest is not None and newest.step == 2 and newest.tree["n"] == {0: [1, None, "a"]}
    file = tmp_path / "step_000000002" / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    newest = store.newest()
    assert newest is not None and newest.step == 1 and torch.equal(newest.tree["x"], torch.ones(3))

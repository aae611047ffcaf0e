"""The learning-rate curve at every update, by hand and against torch's schedulers."""

from itertools import product
from math import cos, pi

import pytest
import torch
from pydantic import ValidationError

from jobs.schedules import Constant, Cosine, ScheduleSpec, Step
from jobs.spec import JobSpec
from jobs.steps import Steps

WARMUPS = {"linear": [1 / 3, 2 / 3, 3 / 3], "constant": [0.25, 0.25, 0.25]}
"""1.5 epochs of 2 updates."""
DECAYS = {
    Constant(): [1, 1, 1, 1, 1],
    Cosine(): [0.5 * (1 + cos(pi * done / 5)) for done in (0, 1, 2, 3, 4)],
    Step(at_epochs=(2, 3)): [1, 0.1, 0.1, 0.01, 0.01],  # updates 4 | 5, 6 | 7, 8: milestones count the warmup
}


def curve(schedule: ScheduleSpec, updates: int, per_epoch: int) -> list[float]:
    return [schedule(update, updates, per_epoch) for update in range(1, updates + 1)]


@pytest.mark.parametrize(
    ("warmup", "decay"), list(product(WARMUPS, DECAYS)), ids=lambda part: getattr(part, "kind", part)
)
def test_every_update_by_hand(warmup: str, decay: Constant | Cosine | Step) -> None:
    schedule = ScheduleSpec(warmup_epochs=1.5, warmup=warmup, warmup_factor=0.25, decay=decay)
    assert curve(schedule, 8, 2) == pytest.approx(WARMUPS[warmup] + DECAYS[decay], abs=1e-15)


@pytest.mark.parametrize("decay", list(DECAYS), ids=lambda decay: decay.kind)
def test_without_warmup_the_first_update_is_at_full_rate(decay: Constant | Cosine | Step) -> None:
    assert ScheduleSpec(decay=decay)(1, 8, 2) == 1.0


def test_endpoints() -> None:
    schedule = ScheduleSpec(warmup_epochs=5)
    first, reached, decayed, last = (schedule(update, 12000, 100) for update in (1, 500, 501, 12000))
    assert (first, reached, decayed) == (1 / 500, 1.0, 1.0)
    assert 0 < last < 1e-7  # the curve would reach 0 one update after the last
    assert ScheduleSpec()(1, 1, 1) == 1.0


def torchs(updates: int, scheduler: type, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    clock = scheduler(optimizer, **options)
    factors = []
    for _ in range(updates):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        clock.step()
    return factors


def test_cosine_is_torchs() -> None:
    ours = curve(ScheduleSpec(), 30, 10)
    assert ours == pytest.approx(torchs(30, torch.optim.lr_scheduler.CosineAnnealingLR, T_max=30), abs=1e-12)


def test_step_is_torchs() -> None:
    ours = curve(ScheduleSpec(decay=Step(at_epochs=(1, 2.5), factor=0.2)), 30, 10)
    theirs = torchs(30, torch.optim.lr_scheduler.MultiStepLR, milestones=[10, 25], gamma=0.2)
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("kind", ["linear", "constant"])
def test_warmup_that_takes_every_update(kind: str) -> None:
    schedule = ScheduleSpec(warmup_epochs=0.99, warmup=kind)  # rounds to all 10 updates
    assert schedule.warmup_updates(10) == 10
    assert curve(schedule, 10, 10) == ([n / 10 for n in range(1, 11)] if kind == "linear" else [0.1] * 10)


def test_accumulation_and_workers_do_not_change_it() -> None:
    spec = JobSpec.model_validate(
        {
            "name": "curve",
            "data": {"kind": "digits"},
            "model": {"kind": "cnn"},
            "optimizer": {"kind": "sgd", "lr": 0.1},
            "schedule": {"warmup_epochs": 1},
            "epochs": 4,
            "batch_size": 64,
        }
    )
    curves = set()
    for accumulation, workers in ((1, 1), (4, 1), (1, 2), (2, 4)):
        changed = spec.override({"accumulation": accumulation, "resources.workers": workers})
        steps = Steps.of(changed, 1000)
        assert (steps.per_epoch, steps.total) == (15, 60)
        curves.add(tuple(curve(changed.schedule, steps.total, steps.per_epoch)))
    assert len(curves) == 1


@pytest.mark.parametrize("epochs", [[3, 2], [2, 2], [], [0], [-1, 2]])
def test_milestones_that_make_no_sense_are_refused(epochs: list[float]) -> None:
    with pytest.raises(ValidationError, match="at_epochs"):
        Step(at_epochs=epochs)

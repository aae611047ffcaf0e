"""The learning-rate curve at every update, by hand and against torch's schedulers."""

from collections.abc import Callable
from itertools import product
from math import cos, pi
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from jobs.schedules import Constant, Cosine, Polynomial, ScheduleSpec, Step
from jobs.spec import JobSpec

Decay = Constant | Cosine | Polynomial | Step
WARMUPS = {"linear": [1 / 3, 2 / 3, 3 / 3], "constant": [0.25, 0.25, 0.25]}
"""1.5 epochs of 2 updates."""
DECAYS = {
    Constant(): [1, 1, 1, 1, 1],
    Cosine(): [0.5 * (1 + cos(pi * done / 5)) for done in (0, 1, 2, 3, 4)],
    Cosine(final_factor=0.2): [0.2 + 0.4 * (1 + cos(pi * done / 5)) for done in (0, 1, 2, 3, 4)],
    Polynomial(): [1, 0.8, 0.6, 0.4, 0.2],
    Polynomial(power=2, final_factor=0.5): [1, 0.82, 0.68, 0.58, 0.52],
    Step(at_epochs=(2, 3)): [1, 0.1, 0.1, 0.01, 0.01],  # updates 4 | 5, 6 | 7, 8: milestones count the warmup
}


def curve(schedule: ScheduleSpec, updates: int, per_epoch: int) -> list[float]:
    return [schedule(update, updates, per_epoch) for update in range(1, updates + 1)]


@pytest.mark.parametrize(
    ("warmup", "decay"),
    list(product(WARMUPS, DECAYS)),
    ids=lambda part: part if isinstance(part, str) else part.model_dump_json(),
)
def test_every_update_by_hand(warmup: str, decay: Decay) -> None:
    schedule = ScheduleSpec(warmup_epochs=1.5, warmup=warmup, warmup_factor=0.25, decay=decay)
    assert curve(schedule, 8, 2) == pytest.approx(WARMUPS[warmup] + DECAYS[decay], abs=1e-15)


@pytest.mark.parametrize("decay", list(DECAYS), ids=lambda decay: decay.model_dump_json())
def test_without_warmup_the_first_update_is_at_full_rate(decay: Decay) -> None:
    assert ScheduleSpec(decay=decay)(1, 8, 2) == 1.0


def test_endpoints() -> None:
    schedule = ScheduleSpec(warmup_epochs=5)
    first, reached, decayed, last = (schedule(update, 12000, 100) for update in (1, 500, 501, 12000))
    assert (first, reached, decayed) == (1 / 500, 1.0, 1.0)
    assert 0 < last < 1e-7  # the curve would reach 0 one update after the last
    assert ScheduleSpec()(1, 1, 1) == 1.0


@pytest.mark.parametrize(
    ("decay", "middle", "floor"),
    [
        (Cosine(), 0.5, 0.0),
        (Cosine(final_factor=0.1), 0.55, 0.1),
        (Polynomial(), 0.5, 0.0),
        (Polynomial(power=2), 0.25, 0.0),
        (Polynomial(power=0.5, final_factor=0.5), 0.5 + 0.5 * 0.5**0.5, 0.5),
        (Step(at_epochs=(2.5, 7)), 0.1, 0.01),
        (Constant(), 1.0, 1.0),
    ],
    ids=lambda value: value.model_dump_json() if isinstance(value, Decay) else "",
)
@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_endpoints_midpoint_and_floor(decay: Decay, middle: float, floor: float, warmup_epochs: int) -> None:
    """Of 8 epochs after the warmup: t = 0 is the top, T / 2 the middle, and T, which is never trained at, the floor."""
    schedule, per_epoch = ScheduleSpec(warmup_epochs=warmup_epochs, decay=decay), 50
    start, total = warmup_epochs * per_epoch, (warmup_epochs + 8) * per_epoch
    points = [schedule(start + done + 1, total, per_epoch) for done in (0, 200, 400)]
    assert points == pytest.approx([1.0, middle, floor], abs=1e-12)
    assert schedule(total, total, per_epoch) >= points[2]


def torchs(updates: int, scheduler: Callable[..., Any], **options) -> list[float]:
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


def test_the_floor_of_cosine_is_torchs() -> None:
    ours = curve(ScheduleSpec(decay=Cosine(final_factor=0.05)), 30, 10)
    theirs = torchs(30, torch.optim.lr_scheduler.CosineAnnealingLR, T_max=30, eta_min=0.05)
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_polynomial_is_torchs(power: float) -> None:
    ours = curve(ScheduleSpec(decay=Polynomial(power=power)), 30, 10)
    theirs = torchs(30, torch.optim.lr_scheduler.PolynomialLR, total_iters=30, power=power)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_a_straight_line_to_a_floor_is_torchs() -> None:
    ours = curve(ScheduleSpec(decay=Polynomial(final_factor=0.2)), 30, 10)
    theirs = torchs(30, torch.optim.lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.2, total_iters=30)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_linear_warmup_then_cosine_is_torchs() -> None:
    def both(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.SequentialLR:
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 10, end_factor=1.0, total_iters=9)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, decay], milestones=[10])

    ours = curve(ScheduleSpec(warmup_epochs=1), 30, 10)
    assert ours == pytest.approx(torchs(30, both), abs=1e-9)


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
        steps = changed.steps(1000)
        assert (steps.per_epoch, steps.total) == (15, 60)
        curves.add(tuple(curve(changed.schedule, steps.total, steps.per_epoch)))
    assert len(curves) == 1


@pytest.mark.parametrize("epochs", [[3, 2], [2, 2], [], [0], [-1, 2]])
def test_milestones_that_make_no_sense_are_refused(epochs: list[float]) -> None:
    with pytest.raises(ValidationError, match="at_epochs"):
        Step(at_epochs=epochs)

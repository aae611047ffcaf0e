"""Every scheduler keeps the contract of ``tuning.schedulers.scheduler``."""

from __future__ import annotations

import math
import random
from typing import get_args

import pytest
from pydantic import TypeAdapter

from tuning.schedulers import PBT, Asha, Median, NoScheduler, Policy, Scheduler, SchedulerSpec

EXAMPLES: list[Policy] = [
    NoScheduler(),
    Asha(),
    Asha(grace_epochs=2, reduction_factor=2),
    Asha(grace_epochs=1_000_000, reduction_factor=1_000_000),
    Median(),
    Median(grace_epochs=1, min_trials=1),
    Median(grace_epochs=1_000_000, min_trials=1_000_000),
    PBT(),
    PBT(every_epochs=1, quantile=0.5, perturb=0.99),
]
EPOCHS = 9
Reports = list[tuple[int, int, float]]

each = pytest.mark.parametrize("policy", EXAMPLES, ids=lambda policy: policy.model_dump_json())


def reports(seed: int, trials: int = 24, running: int = 4) -> Reports:
    """Reports of trials that run a few at a time; a stopped one would still report."""
    dice = random.Random(seed)
    left = [
        [(ordinal, epoch, dice.choice([dice.random(), 0.5])) for epoch in range(1, EPOCHS + 1)]
        for ordinal in range(trials)
    ]
    told: Reports = []
    while any(left):
        trial = dice.choice([trial for trial in left if trial][:running])
        told.append(trial.pop(0))
    return told


def answers(scheduler: Scheduler, told: Reports) -> list[tuple[bool, int | None]]:
    return [(scheduler.report(*report), scheduler.rung(report[0])) for report in told]


def test_every_kind_has_an_example() -> None:
    assert {type(policy) for policy in EXAMPLES} == set(get_args(get_args(SchedulerSpec)[0]))


@each
def test_json_round_trip(policy: Policy) -> None:
    assert TypeAdapter(SchedulerSpec).validate_json(policy.model_dump_json()) == policy


@each
def test_same_reports_same_answers_in_both_modes(policy: Policy) -> None:
    told = reports(1)
    once = answers(policy.build("max", EPOCHS), told)
    assert once == answers(policy.build("max", EPOCHS), told)
    assert once == answers(policy.build("min", EPOCHS), [(ordinal, epoch, -value) for ordinal, epoch, value in told])
    if isinstance(policy, Asha | Median) and policy.grace_epochs < EPOCHS:
        assert 0 < sum(stop for stop, _ in once) < len(once)
    else:
        assert not any(stop for stop, _ in once)


@each
def test_epochs_that_are_reported_again_change_nothing(policy: Policy) -> None:
    told = reports(2)
    plain = policy.build("max", EPOCHS)
    again = policy.build("max", EPOCHS)
    for place, report in enumerate(told):
        assert plain.report(*report) == again.report(*report)
        for earlier in told[max(0, place - 5) : place + 1]:
            assert again.report(earlier[0], earlier[1], math.nan) == plain.report(*earlier)
        assert plain.rung(report[0]) == again.rung(report[0])


@each
def test_a_trial_at_its_end_is_not_stopped(policy: Policy) -> None:
    scheduler = policy.build("max", EPOCHS)
    for ordinal in range(8):
        assert scheduler.report(ordinal, EPOCHS, -ordinal) is False


@each
@pytest.mark.parametrize("mode", ["max", "min"])
def test_nan_is_the_worst(policy: Policy, mode: str) -> None:
    scheduler = policy.build(mode, EPOCHS)  # type: ignore[arg-type]
    stops = isinstance(policy, Asha | Median) and policy.grace_epochs <= 2
    epoch = getattr(policy, "grace_epochs", 1) if stops else 1
    assert scheduler.report(0, epoch, math.nan) is stops
    for ordinal in range(1, 12):
        assert scheduler.report(ordinal, epoch, 0.5) is False
    assert scheduler.report(12, epoch, math.nan) is stops


@each
def test_without_a_known_end(policy: Policy) -> None:
    told = [report for report in reports(3) if report[1] < EPOCHS]
    assert answers(policy.build("max"), told) == answers(policy.build("max", EPOCHS), told)
    assert all(rung < EPOCHS for rung in policy.rungs(EPOCHS))

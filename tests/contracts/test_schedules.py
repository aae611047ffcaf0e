"""Every decay keeps the contract of ``jobs.schedules``, under every warmup and at the ends of its ranges."""

from itertools import pairwise
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from jobs.schedules import Constant, Cosine, DecaySpec, Polynomial, ScheduleSpec, Step

EXAMPLES: list[Any] = [
    Constant(),
    Cosine(),
    Cosine(final_factor=0.999),
    Polynomial(),
    Polynomial(power=2.0, final_factor=0.1),
    Polynomial(power=1e-9, final_factor=0.999),
    Polynomial(power=100.0),
    Step(at_epochs=(1.5, 2)),
    Step(at_epochs=(1e-9, 1e9), factor=1e-300),
    Step(at_epochs=(2,), factor=1 - 1e-15),
]
WARMUPS: list[dict[str, Any]] = [
    {"warmup_epochs": 0.0},
    {"warmup_epochs": 1.0},
    {"warmup_epochs": 1.25, "warmup": "constant"},
    {"warmup_epochs": 2.9, "warmup": "constant", "warmup_factor": 1e-9},
    {"warmup_epochs": 2.9, "warmup": "constant", "warmup_factor": 1.0},
]
PER_EPOCH, TOTAL = 10, 30

each = pytest.mark.parametrize("decay", EXAMPLES, ids=lambda decay: decay.model_dump_json())
warmed = pytest.mark.parametrize("warmup", WARMUPS, ids=str)


def test_every_kind_has_an_example() -> None:
    assert {type(decay) for decay in EXAMPLES} == set(get_args(get_args(DecaySpec)[0]))


@each
def test_json_round_trip(decay: Any) -> None:
    assert TypeAdapter(DecaySpec).validate_json(decay.model_dump_json()) == decay


@each
@warmed
def test_a_factor_above_zero_and_at_most_one_at_every_update(decay: Any, warmup: dict[str, Any]) -> None:
    schedule = ScheduleSpec(decay=decay, **warmup)
    curve = [schedule(update, TOTAL, PER_EPOCH) for update in range(1, TOTAL + 1)]
    assert all(type(factor) is float and 0 < factor <= 1 for factor in curve)
    assert curve == [schedule(update, TOTAL, PER_EPOCH) for update in range(1, TOTAL + 1)]


@each
@warmed
def test_the_decay_follows_the_warmup_and_never_rises(decay: Any, warmup: dict[str, Any]) -> None:
    schedule = ScheduleSpec(decay=decay, **warmup)
    count = schedule.warmup_updates(PER_EPOCH)
    curve = [schedule(update, TOTAL, PER_EPOCH) for update in range(1, TOTAL + 1)]
    rest = [decay(update, TOTAL - count, count, PER_EPOCH) for update in range(1, TOTAL - count + 1)]
    assert curve[count:] == rest
    assert all(after <= before for before, after in pairwise(rest))
    if not isinstance(decay, Step):  # its milestones are epochs of the run, and may lie within the warmup
        assert rest[0] == 1.0
    if schedule.warmup == "linear" and count:
        assert curve[:count] == [update / count for update in range(1, count + 1)]


@each
def test_one_update_is_a_run_too(decay: Any) -> None:
    assert 0 < ScheduleSpec(decay=decay)(1, 1, 1) <= 1

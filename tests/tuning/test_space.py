"""Distributions by hand, and which names are drawn."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.jobs.digits_job import job
from tuning.spec.search import SearchSpec
from tuning.spec.space import (
    Choice,
    Distribution,
    DistributionSpec,
    Fixed,
    Integers,
    LogUniform,
    Uniform,
    active,
    draw,
    holds,
    look_up,
    same,
)

TEACHER = {"teacher": {"kind": "model", "path": "teacher"}}
ALMOST_ONE = 1 - 2.0**-53


@pytest.mark.parametrize(
    ("distribution", "u", "value"),
    [
        (Uniform(low=2, high=6), 0.25, 3.0),
        (Uniform(low=-1, high=1), 0.0, -1.0),
        (LogUniform(low=1, high=100), 0.5, 10.0),
        (LogUniform(low=1e-4, high=1), 0.0, 1e-4),
        (Integers(low=3, high=6), 0.2499, 3),
        (Integers(low=3, high=6), 0.25, 4),
        (Integers(low=3, high=6), ALMOST_ONE, 6),
        (Integers(low=1, high=3, log=True), 0.56, 1),  # 0.5 * 7^u is below 1.5 up to u = ln 3 / ln 7 = 0.5646
        (Integers(low=1, high=3, log=True), 0.57, 2),
        (Integers(low=1, high=3, log=True), ALMOST_ONE, 3),
        (Choice(values=("a", None, [1])), 0.34, None),
        (Choice(values=("a", None, [1])), ALMOST_ONE, [1]),
        (Fixed(value={"a": 1}), 0.9, {"a": 1}),
    ],
)
def test_inverse_cdf(distribution: Distribution, u: float, value: Any) -> None:
    assert distribution.at(u) == pytest.approx(value) if isinstance(value, float) else distribution.at(u) == value
    assert type(distribution.at(u)) is type(value)
    assert distribution.contains(distribution.at(u))


def test_integers_are_equally_likely_and_by_log_their_intervals_of_logarithms_are() -> None:
    count = 6_000
    plain = Counter(Integers(low=-1, high=4).at((n + 0.5) / count) for n in range(count))
    assert plain == dict.fromkeys(range(-1, 5), count // 6)
    log = Counter(Integers(low=1, high=7, log=True).at((n + 0.5) / count) for n in range(count))
    for value in range(1, 8):
        share = math.log((value + 0.5) / (value - 0.5)) / math.log(7.5 / 0.5)
        assert log[value] / count == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize(
    ("distribution", "points", "grid"),
    [
        (Uniform(low=0, high=1), 3, [0.0, 0.5, 1.0]),
        (Uniform(low=0.1, high=0.3), 2, [0.1, 0.3]),
        (LogUniform(low=1, high=100), 3, [1.0, 10.0, 100.0]),
        (Integers(low=1, high=3), 5, [1, 2, 3]),
        (Integers(low=0, high=10), 3, [0, 5, 10]),
        (Integers(low=1, high=64, log=True), 3, [1, 8, 64]),
        (Choice(values=(1, None)), 9, [1, None]),
        (Fixed(value=4), 9, [4]),
    ],
)
def test_grid(distribution: Distribution, points: int, grid: list[Any]) -> None:
    assert distribution.grid(points) == [pytest.approx(v) if isinstance(v, float) else v for v in grid]
    assert all(map(distribution.contains, distribution.grid(points)))


def test_what_is_contained() -> None:
    assert Uniform(low=0, high=1).contains(1) and not Uniform(low=0, high=1).contains(1.0001)
    assert not Uniform(low=0, high=2).contains(True) and not Uniform(low=0, high=2).contains("1")
    assert Integers(low=0, high=2).contains(2) and not Integers(low=0, high=2).contains(1.0)
    assert Choice(values=(1, {"a": [1, None]})).contains({"a": [1, None]})
    assert not Choice(values=(1,)).contains(True) and Choice(values=(1,)).contains(1.0)


@pytest.mark.parametrize(
    ("values", "known"),
    [
        ((0.1, 0.2), [0.1, 0.2]),
        ((0.1, 0.2, 0.4), [0, 1, 2]),
        ((3, 2, 1), [0, 1, 2]),
        ((1, 3, 2), [1, 3, 2]),
        ((None, "a", True, 0), [None, "a", True, 0]),
        ((1, True), [0, 1]),
        ((0, False, 2), [0, 1, 2]),
        ((None, {"a": 1}), [0, 1]),
        (([1], [2]), [0, 1]),
        ((0, [1]), [0, 1]),
    ],
)
def test_optuna_knows_every_choice_and_it_comes_back(values: tuple[Any, ...], known: list[Any]) -> None:
    choice = Choice(values=values)
    assert same([choice.encode(value) for value in values], known)
    assert all(same(choice.decode(option), value) for option, value in zip(known, values, strict=True))
    distribution = choice.optuna()
    assert len({distribution.to_internal_repr(option) for option in known}) == len(values)
    ordered = values in [(0.1, 0.2, 0.4), (3, 2, 1)]
    assert type(distribution).__name__ == ("IntDistribution" if ordered else "CategoricalDistribution")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"kind": "uniform", "low": 2, "high": 1}, "low 2 must be less than high 1"),
        ({"kind": "integers", "low": 2, "high": 2}, "for one value take kind fixed"),
        ({"kind": "loguniform", "low": 0, "high": 1}, "greater than 0"),
        ({"kind": "integers", "low": 0, "high": 4, "log": True}, "low of at least 1, got 0"),
        ({"kind": "choice", "values": []}, "at least 1"),
        ({"kind": "choice", "values": [1, {"a": 1}, {"a": 1.0}]}, "appears more often"),
        ({"kind": "uniform", "low": "0", "high": 1}, "valid number"),
        ({"kind": "fixed", "value": 1, "when": {"ema": [1]}}, "when"),
    ],
)
def test_refusals(data: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TypeAdapter(DistributionSpec).validate_python(data)


def test_conditions() -> None:
    data = job(batch__mixup__alpha=0.3).model_dump(mode="json")
    assert look_up(data, "batch.mixup.alpha") == 0.3
    assert look_up(data, "batch.cutmix.alpha") is look_up(data, "distillation.teacher.kind") is None
    for when, wanted in [
        ({}, True),
        ({"batch.mixup": "present"}, True),
        ({"batch.cutmix": "present"}, False),
        ({"batch.cutmix": "absent", "distillation": "absent"}, True),
        ({"batch.mixup": "present", "distillation": "present"}, False),
        ({"optimizer.kind": "sgd"}, True),
        ({"optimizer.kind": "adam"}, False),
        ({"epochs": 3}, True),
        ({"schedule.warmup_epochs": 1}, True),  # 1.0 in the job
        ({"compile": False}, True),
        ({"compile": 0}, False),
        ({"ema": None}, True),
    ]:
        assert holds(when, data) is wanted, when


def test_names_are_drawn_in_order_and_a_choice_opens_a_branch() -> None:
    base = job().model_dump(mode="json")
    space = {
        "distillation": Choice(values=(None, TEACHER)),
        "distillation.temperature": LogUniform(low=1, high=20, when={"distillation": "present"}),
        "batch.mixup": Choice(values=(None, {"alpha": 0.2})),
        "batch.mixup.per": Choice(
            values=("batch", "sample"), when={"batch.mixup": "present", "distillation": "absent"}
        ),
        "epochs": Fixed(value=4),
    }
    first = {name: d.ends()[0] for name, d in space.items()}
    last = {name: d.ends()[-1] for name, d in space.items()}
    assert draw(space, base, lambda name, d: first[name]) == {"distillation": None, "batch.mixup": None, "epochs": 4}
    assert draw(space, base, lambda name, d: last[name]) == {
        "distillation": TEACHER,
        "distillation.temperature": 20.0,
        "batch.mixup": {"alpha": 0.2},
        "epochs": 4,
    }
    mixed = draw(space, base, lambda name, d: None if name == "distillation" else last[name])
    assert list(mixed) == ["distillation", "batch.mixup", "batch.mixup.per", "epochs"]
    assert active(space, base, last) == ["distillation", "distillation.temperature", "batch.mixup", "epochs"]
    assert active(space, base, mixed) == list(mixed)
    spec = job().override(mixed)
    assert spec.distillation is None and spec.batch[-1].per == "sample" and spec.epochs == 4
    assert SearchSpec(name="x", job="x", budget={"trials": 1}).trial(last, job()).distillation.temperature == 20
    assert TEACHER == {"teacher": {"kind": "model", "path": "teacher"}}


def test_a_name_without_a_branch_is_drawn_with_the_base() -> None:
    space = {"distillation.temperature": Uniform(low=1, high=2, when={"distillation": "present"})}
    assert draw(space, job().model_dump(mode="json"), lambda *_: 1.5) == {}
    taught = job(distillation=TEACHER).model_dump(mode="json")
    assert draw(space, taught, lambda *_: 1.5) == {"distillation.temperature": 1.5}

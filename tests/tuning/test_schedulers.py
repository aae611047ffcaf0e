"""Each scheduler's arithmetic by hand, and what ASHA saves."""

from __future__ import annotations

import math

import pytest

from tests.tuning.planted import AXES, EPOCHS, TEACHER, TOP1, base, curve, run, top1
from tuning.schedulers import PBT, Asha, Median
from tuning.schedulers.pbt import exploit, explore
from tuning.searchers import Random
from tuning.spec.space import Choice, Fixed, Integers, LogUniform, Uniform


def test_rungs() -> None:
    assert Asha().rungs(27) == (1, 3, 9)
    assert Asha().rungs(28) == (1, 3, 9, 27)
    assert Asha(grace_epochs=2, reduction_factor=2).rungs(8) == (2, 4)
    assert Asha(grace_epochs=8).rungs(8) == ()
    assert Median().rungs(8) == PBT().rungs(8) == ()


def test_asha_by_hand() -> None:
    """eta 3: of n values at a rung the best max(1, n // 3) go on."""
    scheduler = Asha(grace_epochs=2, reduction_factor=3).build("max", 20)
    assert [scheduler.report(0, epoch, 0.5) for epoch in (1, 2, 3)] == [False, False, False]
    assert (scheduler.rung(0), scheduler.rung(1)) == (0, None)
    assert scheduler.report(1, 1, 0.0) is False  # no rung
    values = {1: 0.4, 2: 0.6, 3: 0.55, 4: 0.6, 5: 0.58, 6: 0.1, 7: 0.57, 8: 0.595, 9: 0.58}
    # 4 ties with 2; from 6 values on two go on, 0.6 and 0.6; of 9 three, of which 8 is the third; 9 is not
    stops = {1: True, 2: False, 3: True, 4: False, 5: True, 6: True, 7: True, 8: False, 9: True}
    assert {ordinal: scheduler.report(ordinal, 2, value) for ordinal, value in values.items()} == stops
    assert scheduler.report(2, 6, 0.7) is False and scheduler.rung(2) == 1
    assert scheduler.report(4, 6, 0.69) is True and scheduler.rung(4) == 1
    assert scheduler.report(8, 5, 0.0) is False and scheduler.rung(8) == 0


def test_asha_when_not_every_epoch_is_reported() -> None:
    scheduler = Asha(grace_epochs=1, reduction_factor=2).build("max", 20)
    assert scheduler.report(0, 5, 0.5) is False and scheduler.rung(0) == 2  # rungs 1, 2, 4, 8, 16
    assert scheduler.report(1, 5, 0.4) is True
    assert scheduler.report(0, 7, 0.0) is False and scheduler.report(0, 10, 0.6) is False
    assert scheduler.rung(0) == 3


def test_median_by_hand() -> None:
    scheduler = Median(grace_epochs=2, min_trials=2).build("max", 10)
    for ordinal, (first, second, third) in enumerate([(0.1, 0.3, 0.5), (0.3, 0.5, 0.7)]):
        assert not any(scheduler.report(ordinal, epoch, v) for epoch, v in enumerate((first, second, third), 1))
    # running averages up to epoch 2: 0.2 and 0.4, median 0.3; up to 3: 0.3 and 0.5, median 0.4
    assert scheduler.report(2, 1, 0.0) is False  # grace
    assert scheduler.report(2, 2, 0.31) is False
    assert scheduler.report(2, 3, 0.2) is True  # its best, 0.31, is below 0.4
    assert scheduler.report(3, 1, 0.3) is False and scheduler.report(3, 2, 0.0) is False  # 0.3 against 0.2, 0.4, 0.155
    assert scheduler.report(4, 2, 0.155) is True  # against 0.2, 0.4, 0.155, 0.15: 0.1775


def test_median_waits_for_enough_trials() -> None:
    scheduler = Median(grace_epochs=1, min_trials=2).build("min", 10)
    assert [scheduler.report(0, epoch, 1.0) for epoch in (1, 2)] == [False, False]
    assert scheduler.report(1, 1, 9.0) is False  # one other
    assert scheduler.report(2, 1, 9.0) is True  # 1 and 9: median 5
    assert scheduler.report(2, 2, 9.0) is False  # only one other got to epoch 2


def test_asha_finds_the_same_best_for_less_than_half_the_epochs() -> None:
    spent, all_of_them = 0, 0
    for seed in range(10):
        full = run(Random().build(AXES, base(), seed, (TOP1,)), 40, epochs=EPOCHS)
        saved = run(Random().build(AXES, base(), seed, (TOP1,)), 40, Asha().build("max", EPOCHS), EPOCHS)
        assert max(saved, key=lambda trial: trial[1])[:2] == max(full, key=lambda trial: trial[1])[:2]
        spent += sum(epochs for *_, epochs in saved)
        all_of_them += sum(epochs for *_, epochs in full)
    assert all_of_them == 10 * 40 * EPOCHS
    assert spent < 0.5 * all_of_them


def test_learning_curves_cross() -> None:
    """Else ASHA would have had an easy task: some trials that end better are behind at the first rung."""
    trials = [params for params, *_ in run(Random().build(AXES, base(), 0, (TOP1,)), 40)]
    crossings = sum(curve(a, 1) < curve(b, 1) and top1(a) > top1(b) for a in trials for b in trials)
    assert crossings > 20


def test_exploit_by_hand() -> None:
    population = {0: 0.5, 1: 0.9, 2: 0.1, 3: math.nan, 4: 0.8, 5: 0.4, 6: 0.3, 7: 0.6}
    draws = dict.fromkeys(population, 0.0) | {3: 0.5}
    assert exploit(population, 0.25, "max", draws) == {3: 4, 2: 1}
    assert exploit(population, 0.25, "min", draws) == {3: 6, 1: 2}
    assert exploit(population, 0.01, "max", draws) == {3: 1}
    assert exploit({0: 1.0}, 0.5, "max", draws) == exploit({}, 0.5, "max", {}) == {}
    assert exploit({0: 0.5, 1: 0.5}, 0.5, "max", draws) == {}  # nothing to gain
    assert exploit({0: math.nan, 1: math.nan}, 0.5, "max", draws) == {}
    assert exploit({0: 0.1, 1: 0.2, 2: 0.3}, 0.5, "max", draws) == {0: 2}


def test_explore_by_hand() -> None:
    space = {
        "optimizer.lr": LogUniform(low=0.01, high=1),
        "batch.label_smoothing.epsilon": Uniform(low=0, high=0.3),
        "model.width": Integers(low=4, high=64),
        "batch.mixup.alpha": Choice(values=(0.1, 0.2, 0.4)),
        "distillation": Fixed(value=TEACHER),
        "distillation.temperature": Uniform(low=1, high=21, when={"distillation": "present"}),
    }
    data = base().model_dump(mode="json")
    params = dict(zip(space, (0.1, 0.0, 5, 0.2, TEACHER, 10.0), strict=True))
    up = explore(space, data, params, 0.2, dict.fromkeys(space, 0.5))
    assert up == {
        **params,
        **dict(zip(space, (pytest.approx(0.12), pytest.approx(0.06), 6, 0.4, TEACHER, 12.0), strict=True)),
    }
    down = explore(space, data, up, 0.5, dict.fromkeys(space, 0.49))
    assert list(down.values()) == [pytest.approx(0.06), pytest.approx(0.03), 3 + 1, 0.2, TEACHER, 6.0]
    top = explore(
        space, data, {**params, "optimizer.lr": 0.9, "batch.mixup.alpha": 0.4}, 0.2, dict.fromkeys(space, 0.9)
    )
    assert (top["optimizer.lr"], top["batch.mixup.alpha"]) == (1.0, 0.4)
    without = {name: value for name, value in params.items() if name != "distillation.temperature"}
    assert explore(space, data, without, 0.2, dict.fromkeys(space, 0.75))["distillation.temperature"] == 16.0


def test_pbt_is_due_now_and_then() -> None:
    assert [epoch for epoch in range(1, 11) if PBT(every_epochs=3).pauses(epoch)] == [3, 6, 9]
    assert "must be less than the 5 epochs" in PBT(every_epochs=5).flaw(5)
    assert "must be less than the 5 epochs" in Asha(grace_epochs=5).flaw(5) and not Median().flaw(2)

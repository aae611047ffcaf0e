"""Each searcher's own promises."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from tests.tuning.planted import AXES, BRANCHED, SECONDS, TEACHER, TOP1, asked, base, run, top1
from tuning.schedulers import Asha
from tuning.searchers import NSGA2, TPE, Grid, Random, Searcher, Sobol
from tuning.spec.space import Choice, Fixed, Integers, Space, Uniform

ROOT = Path(__file__).parents[2]


def build(method: Any, space: Space = AXES, seed: int = 0, **more: Any) -> Searcher:
    return method.build(space, base(), seed, (TOP1,), **more)


def best(method: Any, trials: int, seed: int, space: Space = AXES) -> float:
    return max(value for _, value, _ in run(build(method, space, seed), trials))


def test_tpe_beats_random_at_equal_budget() -> None:
    regrets = {kind: [1 - best(kind, 40, seed) for seed in range(10)] for kind in (TPE(), Random())}
    tpe, random = regrets.values()
    assert sum(a < b for a, b in zip(tpe, random, strict=True)) >= 8
    assert np.mean(tpe) < np.mean(random) / 3


def test_tpe_learns_which_branch_is_the_good_one() -> None:
    def quality(params: dict[str, Any]) -> float:
        return top1(params) + 0.3 * (params["distillation"] is not None)

    for seed in range(3):
        tpe, random = (
            [params for params, *_ in run(build(method, BRANCHED, seed), 40, quality=quality)]
            for method in (TPE(startup_trials=8), Random())
        )
        assert sum(params["distillation"] is not None for params in tpe[8:]) > 0.75 * 32
        assert max(map(quality, tpe)) > max(map(quality, random))


def test_tpe_learns_from_stopped_trials() -> None:
    spec = Asha(grace_epochs=1, reduction_factor=3)
    gains = []
    for seed in range(4):
        done = run(build(TPE(), seed=seed), 40, spec.build("max", 27), 27)
        gains.append(np.mean([top1(params) for params, *_ in done[20:]]) - np.mean([top1(p) for p, *_ in done[:10]]))
        assert {epochs for *_, epochs in done} >= {1, 27}
    assert min(gains) > 0.1


def test_trials_that_run_at_the_same_time_keep_apart() -> None:
    searcher = build(TPE(startup_trials=4), {"optimizer.lr": Uniform(low=0.01, high=1)})
    for ordinal in range(12):
        params = searcher.ask(ordinal)
        assert params is not None
        searcher.tell(ordinal, params, {"val/top1": -((params["optimizer.lr"] - 0.5) ** 2)}, "finished")
    together = [searcher.ask(ordinal) for ordinal in range(12, 20)]
    values = sorted(params["optimizer.lr"] for params in together if params)
    assert min(b - a for a, b in itertools.pairwise(values)) > 1e-3


def test_a_configuration_is_not_tried_again_and_the_search_ends_when_there_is_no_other() -> None:
    space = {"batch.mixup.alpha": Choice(values=(0.1, 0.2, 0.4)), "epochs": Integers(low=3, high=4)}
    done = [json.dumps(params) for params in asked(TPE(startup_trials=2), space, trials=20)]
    assert len(set(done)) == len(done) == 6


def front(method: Any, seed: int, trials: int) -> float:
    """The area that a front dominates: top-1 is best at 0.3 of every axis, seconds at 0.6."""
    space = {f"optimizer.{name}": Uniform(low=0, high=1) for name in ("lr", "momentum", "weight_decay")}
    searcher = method.build(space, base(), seed, (TOP1, SECONDS))
    ends = []
    for ordinal in range(trials):
        params = searcher.ask(ordinal)
        accuracy, seconds = (
            1 - sum((v - 0.3) ** 2 for v in params.values()),
            sum((v - 0.6) ** 2 for v in params.values()),
        )
        searcher.tell(ordinal, params, {"val/top1": accuracy, "seconds": seconds}, "finished")
        ends.append((seconds, accuracy))
    area, upper = 0.0, 0.0
    for seconds, accuracy in sorted(ends):
        area += max(0.0, accuracy - upper) * max(0.0, 1 - seconds)
        upper = max(upper, accuracy)
    return area


@pytest.mark.slow
@pytest.mark.parametrize(("method", "trials"), [(NSGA2(population=12), 100), (TPE(), 60)], ids=["nsga2", "tpe"])
def test_the_front_of_two_objectives(method: Any, trials: int) -> None:
    for seed in range(3):
        assert front(method, seed, trials) > front(Random(), seed, trials)


@pytest.mark.slow
def test_a_new_process_asks_the_same() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    command = [sys.executable, "-m", "tests.tuning.planted"]
    other = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    here = [asked(TPE(startup_trials=5)), asked(NSGA2(population=6))]
    assert json.loads(other.stdout) == here


def test_random_draws_hang_on_seed_ordinal_and_name_alone() -> None:
    searcher = build(Random(), seed=5)
    backwards = {ordinal: searcher.ask(ordinal) for ordinal in reversed(range(6))}
    assert list(backwards.values())[::-1] == asked(Random(), AXES, 6, 5)
    more = {"optimizer.lr": Uniform(low=0, high=1), **AXES}
    assert [{name: p[name] for name in AXES} for p in asked(Random(), more, 6, 5)] == asked(Random(), AXES, 6, 5)
    assert asked(Random(), AXES, 6, 6) != asked(Random(), AXES, 6, 5)
    warmups = np.array([p["schedule.warmup_epochs"] for p in asked(Random(), AXES, 400, 5)]) / 2.5
    assert np.histogram(warmups, 4, (0, 1))[0].min() > 70


def test_sobol_is_scipy_s_sequence_and_a_branch_shifts_nothing() -> None:
    us = np.array(
        [
            [p["schedule.warmup_epochs"] / 2.5, p["batch.label_smoothing.epsilon"] / 0.3]
            for p in asked(Sobol(), AXES, 16)
        ]
    )
    for axis in range(2):
        assert sorted(np.floor(us[:, axis] * 16)) == list(range(16))  # one in each sixteenth: a (0, 4)-net
    everything = np.array([[axis.at(u) for axis, u in zip(list(AXES.values())[:2], row, strict=False)] for row in us])
    assert everything[:, 0] == pytest.approx(us[:, 0] * 2.5)
    open_ = {"distillation": Fixed(value=TEACHER), **BRANCHED}
    always = {name: axis.model_copy(update={"when": {}}) for name, axis in BRANCHED.items()}
    plain, full = asked(Sobol(), open_, 16), asked(Sobol(), always, 16)
    for some, all_ in zip(plain, full, strict=True):
        assert some == {name: value for name, value in all_.items() if name in some}
    assert {len(params) for params in plain} == {3, 4}


def test_the_sequence_is_independent_of_what_was_asked_before() -> None:
    from jobs.randomness import key
    from tuning.searchers.sobol import sobol

    sequence = qmc.Sobol(3, rng=np.random.default_rng(key(7, "sobol"))).random(8)
    for place in (0, 1, 2, 5, 7):
        assert sobol(7, place, 3) == list(sequence[place])
    assert sobol(7, 3, 0) == []


def test_grid_is_the_product_in_file_order_over_open_branches() -> None:
    space = {
        "distillation": Choice(values=(None, TEACHER)),
        "distillation.temperature": Uniform(low=1, high=5, when={"distillation": "present"}),
        "epochs": Integers(low=1, high=2),
    }
    assert asked(Grid(points=3), space, trials=100) == [
        {"distillation": None, "epochs": 1},
        {"distillation": None, "epochs": 2},
        *({"distillation": TEACHER, "distillation.temperature": t, "epochs": e} for t in (1, 3, 5) for e in (1, 2)),
    ]
    searcher = build(Grid(points=3), space)
    assert searcher.ask(7) is not None and searcher.ask(8) is None


def test_grid_refuses_what_nobody_can_run() -> None:
    space = {name: Uniform(low=0, high=1) for name in ("optimizer.lr", "optimizer.momentum", "optimizer.weight_decay")}
    with pytest.raises(ValueError, match=r"more than 10,000 combinations \(optimizer.lr 22 x optimizer.momentum 22 x"):
        build(Grid(points=22), space)
    assert build(Grid(points=21), space).ask(9260) is not None


def observe(searcher: Searcher, observations: list[tuple[dict[str, Any], float]]) -> None:
    for place, (params, value) in enumerate(observations):
        searcher.tell(place - len(observations), params, {"val/top1": value}, "finished")


def test_an_earlier_search_is_learned_from() -> None:
    earlier = [(params, value) for params, value, _ in run(build(TPE(), seed=4), 60)]
    searcher = build(TPE(), seed=9)
    observe(searcher, earlier)
    foreign = {"schedule.warmup_epochs": 99.0, "model.width": 3}
    searcher.tell(-100, foreign, {"val/top1": 7.0}, "finished")
    first = [searcher.ask(ordinal) for ordinal in range(3)]
    assert min(top1(params) for params in first if params) > np.mean([value for _, value in earlier[:10]])
    fresh = build(TPE(), seed=9)
    for place, (params, value) in reversed(list(enumerate(earlier))):  # the order of telling does not matter
        fresh.tell(place - len(earlier), params, {"val/top1": value}, "finished")
    fresh.tell(-200, {"schedule.warmup_epochs": 1.0}, {"val/top1": 7.0}, "finished")  # this lacks axes
    assert [fresh.ask(ordinal) for ordinal in range(3)] == first


def test_diverged_trials_repel_and_failed_ones_are_ignored() -> None:
    space = {"optimizer.lr": Uniform(low=0, high=1)}

    def ask(state: str, value: float) -> list[float]:
        searcher = build(TPE(startup_trials=1), space)
        for ordinal in range(12):
            params = {"optimizer.lr": (ordinal + 0.5) / 12}
            diverged = params["optimizer.lr"] > 0.5
            values = {"val/top1": value if diverged else 0.5 + params["optimizer.lr"] / 10}
            searcher.tell(ordinal, params, values, state if diverged else "finished")  # type: ignore[arg-type]
        return [searcher.ask(ordinal)["optimizer.lr"] for ordinal in range(12, 36)]  # type: ignore[index]

    diverged, failed = ask("finished", float("nan")), ask("failed", 9.0)
    assert np.mean(diverged) < 0.5 and np.mean(ask("diverged", 9.0)) < 0.5
    assert np.mean(diverged) < np.mean(failed)


def test_a_trial_that_was_stopped_for_nan_ranks_below_all_others() -> None:
    searcher = build(TPE(startup_trials=1), {"optimizer.lr": Uniform(low=0, high=1)})
    for ordinal in range(12):
        params = {"optimizer.lr": (ordinal + 0.5) / 12}
        if params["optimizer.lr"] > 0.5:
            for epoch in range(1, 9):
                searcher.report(ordinal, epoch, 0.9)
            searcher.report(ordinal, 9, float("nan"))
        else:
            searcher.report(ordinal, 1, 0.1)
        searcher.tell(ordinal, params, {"val/top1": 0.9}, "stopped")
    asked_ = [searcher.ask(ordinal) for ordinal in range(12, 36)]
    assert np.mean([params["optimizer.lr"] for params in asked_ if params]) < 0.5


def test_a_retried_trial_counts_by_its_last_end() -> None:
    searcher = build(TPE(startup_trials=1))
    params = searcher.ask(0)
    assert params is not None
    searcher.tell(0, params, None, "failed")
    assert searcher.ask(0) == params
    searcher.begin(0, params)
    searcher.tell(0, params, {"val/top1": 0.5}, "finished")
    other = build(TPE(startup_trials=1))
    other.tell(0, params, {"val/top1": 0.5}, "finished")
    assert searcher.ask(1) == other.ask(1)

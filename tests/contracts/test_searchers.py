"""Every searcher keeps the contract of ``tuning.searchers.searcher``."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from tests.tuning.planted import BRANCHED, SECONDS, TEACHER, TOP1, base
from tuning.searchers import NSGA2, TPE, Grid, Method, Random, Searcher, SearcherSpec, Sobol
from tuning.spec.space import Choice, Fixed, Space, Uniform, active, same

EXAMPLES: list[Method] = [
    Random(),
    Grid(),
    Grid(points=2),
    Sobol(),
    TPE(),
    TPE(startup_trials=1, candidates=1),
    TPE(startup_trials=1_000_000),
    NSGA2(population=4),
    NSGA2(population=2),
]
SPACE: Space = {**BRANCHED, "epochs": Fixed(value=4), "ema": Choice(values=(None, {"decay": 0.9}))}

each = pytest.mark.parametrize("method", EXAMPLES, ids=lambda method: method.model_dump_json())


def build(method: Method, space: Space = SPACE, **more: Any) -> Searcher:
    goals = (TOP1, SECONDS) if isinstance(method, NSGA2) else (TOP1,)
    return method.build(space, base(), 11, goals, **more)


def values(ordinal: int) -> dict[str, float]:
    return {"val/top1": (ordinal * 7 % 10) / 10, "seconds": float(ordinal * 3 % 7), "val/loss": 0.1}


def end(searcher: Searcher, ordinal: int, params: dict[str, Any]) -> None:
    """Every way to end in turn."""
    searcher.report(ordinal, 1, 0.5)
    state = ("finished", "finished", "stopped", "failed", "finished")[ordinal % 5]
    told = None if state == "failed" else {"val/top1": float("nan")} if ordinal % 5 == 4 else values(ordinal)
    searcher.tell(ordinal, params, told, state)  # type: ignore[arg-type]


def conduct(searcher: Searcher, trials: int = 14, running: int = 1) -> list[dict[str, Any]]:
    """Ask for that many trials, of which so many run at a time."""
    asked: list[dict[str, Any]] = []
    for ordinal in range(trials):
        params = searcher.ask(ordinal)
        assert params is not None
        asked.append(params)
        if ordinal - running + 1 >= 0:
            end(searcher, ordinal - running + 1, asked[ordinal - running + 1])
    return asked


def test_every_kind_has_an_example() -> None:
    assert {type(method) for method in EXAMPLES} == set(get_args(get_args(SearcherSpec)[0]))


@each
def test_json_round_trip(method: Method) -> None:
    assert TypeAdapter(SearcherSpec).validate_json(method.model_dump_json()) == method


@each
@pytest.mark.parametrize("running", [1, 3])
def test_parameters_are_of_the_space_and_their_branches_make_jobs(method: Method, running: int) -> None:
    data = base().model_dump(mode="json")
    for params in conduct(build(method), running=running):
        assert list(params) == active(SPACE, data, params)
        assert all(SPACE[name].contains(value) for name, value in params.items())
        assert same(json.loads(json.dumps(params)), params)
        job = base().override(params)
        assert job.epochs == 4 and (job.distillation is None) == (params["distillation"] is None)
    assert SPACE["distillation"].ends() == (None, {"teacher": {"kind": "model", "path": "teacher"}}) == (None, TEACHER)


@each
@pytest.mark.parametrize("running", [1, 3])
def test_told_the_same_it_asks_the_same(method: Method, running: int) -> None:
    assert conduct(build(method), running=running) == conduct(build(method), running=running)


@each
def test_a_new_one_goes_on_from_the_journal(method: Method) -> None:
    searcher = build(method)
    asked = conduct(searcher, 9, running=3)
    resumed = build(method)
    for ordinal in range(7):
        resumed.begin(ordinal, json.loads(json.dumps(asked[ordinal])))
        end(resumed, ordinal, json.loads(json.dumps(asked[ordinal])))
    for ordinal in (7, 8):
        resumed.begin(ordinal, asked[ordinal])
    if not isinstance(method, NSGA2):  # its generations go by what had ended when a trial began
        assert [searcher.ask(ordinal) for ordinal in (9, 10)] == [resumed.ask(ordinal) for ordinal in (9, 10)]
    one, other = build(method), build(method)
    asked = conduct(one, 9)
    for ordinal in range(9):
        other.begin(ordinal, asked[ordinal])
        end(other, ordinal, asked[ordinal])
    assert one.ask(9) == other.ask(9)


@each
def test_what_it_gave_may_be_changed(method: Method) -> None:
    searcher, other = build(method), build(method)
    for ordinal in range(6):
        params, same_params = searcher.ask(ordinal), other.ask(ordinal)
        assert params == same_params is not None
        for part in (searcher, other):
            end(part, ordinal, dict(same_params))
        for value in params.values():
            if isinstance(value, dict):
                value.clear()
    assert searcher.ask(6) == other.ask(6)


@each
def test_start_points_come_first_and_are_completed(method: Method) -> None:
    points = [
        {"distillation": None, "batch.mixup.alpha": 0.3, "distillation.temperature": 4.0, "model.width": 8},
        {"distillation": TEACHER, "distillation.temperature": 99.0, "ema": {"decay": 0.9}},
    ]
    searcher = build(method, points=points)
    first, second, third = conduct(searcher, 3)
    assert first["distillation"] is None and first["batch.mixup.alpha"] == 0.3
    assert list(first) == ["distillation", "batch.mixup.alpha", "batch.label_smoothing.epsilon", "epochs", "ema"]
    assert second["distillation"] == TEACHER and second["ema"] == {"decay": 0.9}
    assert 1 <= second["distillation.temperature"] <= 20
    assert third == build(method).ask(0) or isinstance(method, Random | TPE | NSGA2)


@each
def test_one_value_is_a_space_too(method: Method) -> None:
    searcher = build(method, {"epochs": Fixed(value=3)})
    assert searcher.ask(0) == {"epochs": 3}
    narrow = build(method, {"optimizer.lr": Uniform(low=0.1, high=0.10000000000000002)})
    params = narrow.ask(0)
    assert params is not None and 0.1 <= params["optimizer.lr"] <= 0.10000000000000002

"""The benchmarks work, whatever they measure: spreads, a row a trick, worlds that run in turns and stand still."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import psutil
import pytest

from benchmarks import world
from benchmarks.measure import Spread, recipe, workplace
from benchmarks.memory import mapped
from benchmarks.tricks import every
from jobs.augment import AugmentSpec
from jobs.batch import BatchSpec


@pytest.fixture
def folder(session_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(session_home))  # put back afterwards
    with workplace() as path:
        yield path


def test_interval_is_the_narrowest_of_order_statistics_with_95_percent() -> None:
    seven, nine = Spread.of([7, 1, 6, 2, 5, 3, 4]), Spread.of(range(9))
    assert (seven.median, seven.low, seven.high, seven.least, seven.most, seven.count) == (4, 1, 7, 1, 7, 7)
    assert seven.confidence == pytest.approx(1 - 2 / 2**7)
    assert (nine.low, nine.high, nine.least, nine.most) == (1, 7, 0, 8)
    assert nine.confidence == pytest.approx(1 - 2 * (1 + 9) / 2**9)
    assert Spread.of([1.0, 2.0]).confidence == 0.5


def test_ratios_are_of_pairs() -> None:
    assert Spread.ratio([2, 30, 4], [1, 10, 4]).median == 2


@pytest.mark.parametrize(("union", "slot"), [(BatchSpec, "batch"), (AugmentSpec, "augment")])
def test_every_kind_has_a_row(union: object, slot: str) -> None:
    kinds = {type(trick) for trick in every(union, f"tests.contracts.test_{slot}")}
    assert kinds == set(get_args(get_args(union)[0]))


@pytest.mark.parametrize(
    "name",
    [
        "orchestrator.execution.member:serve",
        "orchestrator.execution.worker:ToRecorder",
        "orchestrator.execution.launch:fit_with_train",
        "tuning.run.tune:tune.TuneConfig",
        "jobs.run:Run.settle",
        "jobs.run:Run.state",
        "jobs.run:Run.update",
    ],
)
def test_what_benchmarks_wrap_is_there(name: str) -> None:
    module, path = name.split(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert callable(found)


@pytest.mark.slow
def test_worlds_run_in_turns_and_stand_still_between(folder: Path) -> None:
    spec = str(recipe(folder, 300, "batch_size=100", "model.depth=8"))

    def ours() -> world.World:
        return world.torchrun("ours", folder, 2, "benchmarks.ours", spec, **world.allocator())

    def bare() -> world.World:
        return world.torchrun("bare", folder, 2, "benchmarks.loops", "bare", spec)

    with world.together(ours, bare) as worlds:
        for each in worlds * 2:
            answer = each.segment()
            assert answer["images"] == 300
            assert answer["seconds"] > 0
            for other in worlds:
                assert {process.status() for process in other.tree()} == {psutil.STATUS_STOPPED}
        assert mapped(worlds[0].pids[0])["own pss"] > 50
        processes = [process for each in worlds for process in each.tree()]
    assert not psutil.wait_procs(processes, timeout=60)[1]
    assert [each.process.returncode for each in worlds] == [0, 0]

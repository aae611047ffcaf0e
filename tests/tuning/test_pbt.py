"""Population based training on real Ray Tune: weights go from trial to trial, and nothing hangs on timing."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.execution.verify import Repetition
from orchestrator.home import run_folder
from orchestrator.models.promotion import promote
from tests.orchestrator.real import points
from tests.tuning.test_driver import children, spec
from tuning.run.history import FILE, History
from tuning.run.launch import search
from tuning.schedulers import PBT
from tuning.spec.search import SearchSpec
from tuning.spec.space import LogUniform

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

LR = LogUniform(low=1e-6, high=0.05)


def population(name: str, **changes: Any) -> SearchSpec:
    given: dict[str, Any] = {
        "space": {"optimizer.lr": LR.model_dump()},
        "scheduler": {"kind": "pbt", "every_epochs": 1, "quantile": 0.5},
        "budget": {"trials": 4, "epochs_per_trial": 3},
        "start_from": {"points": [{"optimizer.lr": 1e-6}, {"optimizer.lr": 0.05}]},
    }
    return spec(name, **{**given, **changes})


def seed_that_moves_up() -> int:
    """One with which trial 0, when it takes over from trial 1 at the upper end of the range, gets that very end."""
    pbt, space = PBT(every_epochs=2, quantile=0.5), {"optimizer.lr": LR}
    trials = {0: ({"optimizer.lr": 1e-6}, 0.1), 1: ({"optimizer.lr": 0.05}, 0.9)}
    return next(
        seed
        for seed in range(100)
        if pbt.take_over(space, {}, trials, "max", seed, 2) == {0: (1, {"optimizer.lr": 0.05})}
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_that_takes_over_equal_parameters_goes_on_exactly_as_its_donor(workers: int) -> None:
    pbt, job = {"kind": "pbt", "every_epochs": 2, "quantile": 0.5}, {"resources.workers": workers, "model.width": 8}
    budget = {"trials": 2, "epochs_per_trial": 4}
    given = population(f"twins{workers}", set=job, scheduler=pbt, budget=budget, seed=seed_that_moves_up())
    outcome = search(given)
    taker, donor = outcome.trials
    assert taker.donors == {2: 1} and not donor.donors
    assert taker.params == donor.params == {"optimizer.lr": 0.05}
    for epoch in (1, 2):
        assert taker.results[epoch]["val/loss"] > donor.results[epoch]["val/loss"], "an epoch of its own was lost"
    for epoch in (3, 4):
        assert taker.results[epoch]["val/loss"] == donor.results[epoch]["val/loss"]
        assert taker.results[epoch]["train/loss"] == donor.results[epoch]["train/loss"]
    lineage = History.look(run_folder(outcome.name)).lineage(0)
    assert lineage == {**donor.results, 3: taker.results[3], 4: taker.results[4]}
    client, _, (run, _) = children(outcome.name)
    assert [step for step, _ in points(client, run, "val/loss")] == [1, 2, 3, 4]
    assert points(client, run, "params/optimizer.lr") == [(0, 1e-6), (2, 0.05)]
    assert points(client, run, "donor") == [(2, 1.0)]
    assert run.info.status == "FINISHED"
    with pytest.raises(ValueError, match="took over weights of other trials of its search, so no job repeats it"):
        Repetition.of(taker.run)
    if workers == 1:
        promote(taker.run, "champion", "twins")
        (version,) = client.search_model_versions("name = 'twins'")
        assert "no job repeats it" in version.description and "repeat" not in version.tags
    assert not list(run_folder(outcome.name).parent.glob(f"{outcome.name}-*/checkpoints/step_*"))


def test_how_many_run_at_a_time_changes_nothing() -> None:
    one, two = (search(population("crowd", max_concurrent=count)) for count in (1, 2))
    assert one.trials[0].donors
    for mine, other in zip(one.trials, two.trials, strict=True):
        assert (mine.params, mine.donors) == (other.params, other.donors)
        for epoch in (1, 2, 3):
            assert mine.results[epoch]["val/loss"] == other.results[epoch]["val/loss"]


def test_a_member_that_fails_leaves_the_others_to_go_on() -> None:
    wild = {**LR.model_dump(), "high": 1e6}
    points_ = [{"optimizer.lr": 1e6}, {"optimizer.lr": 0.05}, {"optimizer.lr": 0.01}]
    outcome = search(
        population(
            "wild",
            space={"optimizer.lr": wild},
            start_from={"points": points_},
            budget={"trials": 3, "epochs_per_trial": 2},
            set={"resources.workers": 1, "model.width": 8, "precision": "fp32"},
        )
    )
    assert [trial.status for trial in outcome.trials[1:]] == ["FINISHED", "FINISHED"]
    assert outcome.trials[0].status == "FAILED" and outcome.trials[0].kind == "nan"
    assert max(outcome.trials[1].results) == 2
    assert any(e.get("event") == "takeover" for e in _events(outcome.name))


def _events(name: str) -> list[Any]:
    from orchestrator.tracking.journal import read

    assert History.look(run_folder(name)).closed == "trials"
    return [entry.event for entry in read(run_folder(name) / FILE)]

"""Trials of several workers share a group of Ray Train workers, and each ends as it would by itself."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.execution.verify import Repetition
from orchestrator.execution.worker import WEIGHTS
from orchestrator.home import home as home_folder
from tests.orchestrator.real import actors
from tests.tuning.test_driver import children, spec
from tuning.run.driver import Driver
from tuning.run.launch import search

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

SAME = {"optimizer.lr": 0.05, "model.width": 8, "precision": "fp32"}
HOPELESS = {**SAME, "optimizer.lr": 1e-6}
OTHERS = [
    {"optimizer.lr": 0.001, "model.width": 4, "precision": "fp64"},
    {"optimizer.lr": 0.002, "model.width": 16, "precision": "bf16"},
]
SPACE: dict[str, Any] = {
    "checkpoint.keep": {"kind": "integers", "low": 1, "high": 10},  # so that equal trials count as different points
    "optimizer.lr": {"kind": "loguniform", "low": 1e-6, "high": 0.2},
    "model.width": {"kind": "choice", "values": [4, 8, 16]},
    "precision": {"kind": "choice", "values": ["fp32", "bf16", "fp64"]},
}
KILLED = 5


def test_a_trial_ends_the_same_whatever_its_group_has_trained_before() -> None:
    """The first of its group, after others, after one that was stopped, while a worker dies, and as the tenth."""
    killed = []

    def kill_one(driver: Driver) -> None:
        if not killed and KILLED in driver.live and driver.history.trials[KILLED].results:
            killed.append(actors("RayTrainWorker")[-1])
            killed[-1].kill()

    jobs: list[dict[str, Any]] = [SAME, *OTHERS, HOPELESS, SAME, SAME, *OTHERS, SAME, SAME]
    trials = [{"checkpoint.keep": number, **params} for number, params in enumerate(jobs, 1)]
    asha = {"kind": "asha", "grace_epochs": 1, "reduction_factor": 2}
    outcome = search(
        spec(
            "pooled",
            set={"resources.workers": 2, "resources.max_failures": 1},
            space=SPACE,
            start_from={"points": trials},
            scheduler=asha,
            budget={"trials": len(trials), "epochs_per_trial": 6},
        ),
        show=kill_one,
    )
    assert killed and [trial.params for trial in outcome.trials] == trials
    assert {trial.status for trial in outcome.trials} == {"FINISHED"}
    assert [trial.stopped_by for trial, job in zip(outcome.trials, jobs, strict=True) if job is SAME] == [None] * 5
    assert outcome.trials[jobs.index(HOPELESS)].stopped_by == "asha"
    runs = dict(zip((trial.ordinal for trial in outcome.trials), children(outcome.name)[2], strict=True))
    found = {number: runs[number].data.tags[WEIGHTS] for number, params in enumerate(jobs) if params is SAME}
    assert len(found) == 5 and len(set(found.values())) == 1
    groups = [path.name for path in (home_folder() / "ray").glob("pooled-0*")]
    assert len(groups) == 1, "a trial or a dead worker cost more than its group's workers"
    alone = Repetition.of(outcome.trials[-1].run).run()
    assert alone.equal and alone.before.weights == found[0]

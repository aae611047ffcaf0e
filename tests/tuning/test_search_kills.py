"""A search whose driver is killed, or interrupted, goes on as if nothing had happened."""

from __future__ import annotations

import json
import random
import re
import time
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.home import run_folder
from tests.orchestrator.real import OWN, Command, damage, mlflow_run, orchestrator, points, wait_until
from tuning.run.history import FILE, History

pytestmark = pytest.mark.slow

SEARCH: dict[str, Any] = {
    "name": "killed",
    "job": "jobs/recipes/digits.yaml",
    "set": {"resources.workers": 1, "model.width": 64, "evaluation.batch_size": 8},
    "space": {
        "optimizer.lr": {"kind": "loguniform", "low": 0.001, "high": 0.2},
        "batch.label_smoothing.epsilon": {"kind": "uniform", "low": 0.0, "high": 0.2},
    },
    "searcher": {"kind": "tpe", "startup_trials": 2},
    "scheduler": {"kind": "asha", "grace_epochs": 1, "reduction_factor": 2},
    "budget": {"trials": 5, "epochs_per_trial": 4},
    "max_concurrent": 1,
    "finish": False,
}


def story(name: str) -> list[tuple[Any, ...]]:
    """What a search decided and found: parameters, losses by epoch and end of each trial."""
    history = History.look(run_folder(name))
    return [
        (
            trial.params,
            {epoch: values["val/loss"] for epoch, values in sorted(trial.results.items())},
            trial.status,
            trial.stopped_by,
            trial.values.get("test/loss"),
        )
        for _, trial in sorted((history.trials | history.finals).items())
    ]


def results(name: str) -> int:
    """Epochs in the search's journal so far."""
    path = run_folder(name) / FILE
    if not path.exists():
        return 0
    history = History.look(run_folder(name))
    return sum(max(trial.results, default=0) for trial in (*history.trials.values(), *history.finals.values()))


def write(tmp_path: Path, name: str, **changes: Any) -> str:
    path = tmp_path / f"{name}.yaml"
    path.write_text(json.dumps({**SEARCH, "name": name, **changes}))
    return str(path)


def kill(command: Command) -> None:
    """Kill a driver outright, and its cluster with it."""
    family = psutil.Process(command.process.pid).children(recursive=True)
    command.process.kill()
    command.end()
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    assert not psutil.wait_procs(family, 60)[1], "the cluster was left behind"


def hunt(path: str, name: str, moments: list[tuple[int, float]]) -> None:
    """Launch a search, kill its driver again and again, and let it end at last.

    At first it has a cluster of its own, which is killed with it; then that of the test run, which has to free what the
    driver held.

    Args:
        path: its YAML file.
        name: of the search.
        moments: each when that epoch is in the journal, or so many seconds after the start if these are over first.
    """
    words = ["search", "launch", path]
    for turn, (epoch, seconds) in enumerate(moments):
        with Command(*words, env={} if turn else OWN) as command:
            until = time.monotonic() + seconds
            wait_until(
                lambda epoch=epoch, until=until: results(name) >= epoch or time.monotonic() > until, f"epoch {epoch}"
            )
            kill(command)
        if (run_folder(name) / FILE).exists():
            words = ["search", "resume", name]
    told = orchestrator("search", "status", name)
    assert told.returncode == 0 and f"orchestrator search resume {name}" in told.stdout
    last = orchestrator(*words)
    assert last.returncode == 0, last.stdout + last.stderr


def test_four_kills_at_any_moment_change_no_configuration_and_no_number(warm: None, tmp_path: Path) -> None:
    """Two at a time and nobody stopped early, so that what is found does not hang on who was first."""
    plain = {
        "searcher": {"kind": "random"},
        "scheduler": {"kind": "none"},
        "budget": {"trials": 6, "epochs_per_trial": 4},
        "max_concurrent": 2,
    }
    assert orchestrator("search", "launch", write(tmp_path, "calm-plain", **plain)).returncode == 0
    draws = random.Random(0)
    moments = [(2, inf), (6, 8 * draws.random()), (10, inf), (14, 3 * draws.random())]
    hunt(write(tmp_path, "hunted-plain", **plain), "hunted-plain", moments)
    assert story("hunted-plain") == story("calm-plain")


PBT: dict[str, Any] = {
    "searcher": {"kind": "random"},
    "scheduler": {"kind": "pbt", "every_epochs": 1, "quantile": 0.5},
    "budget": {"trials": 3, "epochs_per_trial": 3},
    "max_concurrent": 2,
}


def test_kill_9_of_the_driver_of_a_population_changes_nothing(warm: None, tmp_path: Path) -> None:
    assert orchestrator("search", "launch", write(tmp_path, "calm", **PBT)).returncode == 0
    hunt(write(tmp_path, "hunted", **PBT), "hunted", [(3, inf), (6, inf)])
    assert story("hunted") == story("calm")
    donors = [
        {ordinal: trial.donors for ordinal, trial in History.look(run_folder(name)).trials.items()}
        for name in ("calm", "hunted")
    ]
    assert donors[0] == donors[1] and any(donors[0].values())


def test_kill_9_of_the_driver_changes_no_decision_and_no_number(warm: None, tmp_path: Path) -> None:
    whole = {"finish": True, "set": {**SEARCH["set"], "epochs": 5}}
    assert orchestrator("search", "launch", write(tmp_path, "undisturbed", **whole)).returncode == 0
    trials = History.look(run_folder("undisturbed")).epochs
    killed = write(tmp_path, "killed", **whole)
    hunt(killed, "killed", [(5, inf), (trials + 2, inf), (trials + 6, inf)])
    assert story("killed") == story("undisturbed")
    assert len(story("killed")) == 7, "five trials, winner and base"
    client, parent = mlflow_run("killed")
    assert parent.info.status == "FINISHED"
    runs = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(runs) == 7 and {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        steps = [step for step, _ in points(client, run, "val/loss")]
        assert steps == list(range(1, len(steps) + 1)), "a point was lost or repeated"


def test_a_search_whose_terminal_was_closed_is_resumed(warm: None, tmp_path: Path) -> None:
    few = {"scheduler": {"kind": "none"}, "budget": {"trials": 1, "epochs_per_trial": 30}}
    with Command("search", "launch", write(tmp_path, "stopped", **few), env=OWN, terminal=True) as command:
        wait_until(lambda: results("stopped") >= 2, "epoch 2")
        command.close_terminal()
        assert command.end() == 130, command.output
    _, parent = mlflow_run("stopped")
    assert (parent.info.status, parent.data.tags["ended_by"]) == ("KILLED", "interrupted")
    assert "orchestrator search resume stopped" in orchestrator("search", "status", "stopped").stdout
    (running,) = [t.run for t in History.look(run_folder("stopped")).trials.values() if t.status == "RUNNING"]
    damaged = damage(running)
    rest = orchestrator("search", "resume", "stopped")
    assert rest.returncode == 0, rest.stdout + rest.stderr
    assert re.search(rf"{running}: checkpoint \S+{damaged} is damaged: .* So training (resumes|begins)", rest.stdout)
    history = History.look(run_folder("stopped"))
    assert [trial.status for trial in history.trials.values()] == ["FINISHED"]
    assert mlflow_run("stopped")[1].info.status == "FINISHED"

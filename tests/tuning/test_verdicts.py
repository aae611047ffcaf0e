"""A search is confirmed and a recipe taken apart on real Ray with a real SQLite MLflow store and real digits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.home import run_folder
from orchestrator.tracking.journal import FILE as RUN
from orchestrator.tracking.journal import read
from tests.orchestrator.real import OWN, Command, orchestrator, wait_until
from tests.tuning.test_driver import children, outcome_spec, spec
from tests.tuning.test_search_kills import kill
from tuning.cli import search as commands
from tuning.run.history import FILE, History
from tuning.run.launch import search
from tuning.run.results import Trial

pytestmark = pytest.mark.slow

DIGITS = Path("jobs/recipes/digits.yaml")
ABLATE = ("ablate", str(DIGITS), "--trick", "cosine decay", "-s", "name=apart", "-s", "epochs=2")
ABLATE += ("-s", "resources.workers=1", "-s", "model.width=32", "-s", "evaluation.batch_size=50")


@pytest.mark.usefixtures("cluster")
def test_the_verdict_on_a_search(tmp_path: Path) -> None:
    """A learning rate that is far better, and a setting that changes no number."""
    job = tmp_path / "job.yaml"
    job.write_text(DIGITS.read_text().replace("lr: 0.1", "lr: 0.00001"))
    found = search(
        spec(
            "searched",
            job=str(job),
            space={
                "optimizer.lr": {"kind": "choice", "values": [0.00001, 0.1]},
                "evaluation.batch_size": {"kind": "choice", "values": [500, 100]},
            },
            searcher={"kind": "grid"},
            budget={"epochs_per_trial": 3},
            finish=False,
        )
    )
    done = CliRunner().invoke(commands, ["confirm", found.name, "--top", "3", "--seeds", "3"])
    assert done.exit_code == 0, done.output
    same, better, better_too = ({**trial.params} for trial in found.trials if trial.ordinal)
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.output.splitlines() if "│" in line]
    rows = {cells[0]: cells[1:] for cells in lines}
    assert set(rows) == {"base", "trial 1", "trial 2", "trial 3"}
    assert rows["trial 1"][1:6] == ["+0.00", "+0.00 to +0.00", "no difference seen", "base", "1.000"]
    assert rows["trial 2"][3] == rows["trial 3"][3] == "better" and rows["trial 2"][0] == rows["trial 3"][0]
    assert "trial 0 is left out, for its job is another arm's" in done.output
    assert "trial 2 is better than base by" in done.output

    client, parent, runs = children("searched-confirm")
    assert parent.info.status == "FINISHED" and parent.data.tags["arms"] == "confirm" and len(runs) == 12
    seeds: dict[str, list[str]] = {}
    for run in runs:
        assert run.data.params["seed.init"] == run.data.params["seed.data"] == run.data.tags["seed"]
        assert "test/top1" in run.data.metrics
        seeds.setdefault(run.data.tags["arm"], []).append(run.data.tags["seed"])
    assert seeds == {arm: ["1", "2", "3"] for arm in rows}, "not the search's seed, 0"
    for name, params in {"trial 1": same, "trial 2": better, "trial 3": better_too}.items():
        values = next(run.data.params for run in runs if run.data.tags["arm"] == name)
        assert {key: float(values[key]) for key in params} == params
    table = json.loads(Path(client.download_artifacts(parent.info.run_id, "verdict.json")).read_text())
    assert [row[0] for row in table["data"]] == list(rows) and table["data"][2][4] == "better"
    assert {"path": "verdict.json", "type": "table"} in json.loads(parent.data.tags["mlflow.loggedArtifacts"])
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"report.html", "verdict.md"}
    again = CliRunner().invoke(commands, ["confirm", found.name, "--top", "3", "--seeds", "3", "--dry-run"])
    assert again.exit_code == 0 and "4 arms x 3 seeds" in again.output
    status = CliRunner().invoke(commands, ["status", "searched-confirm"])
    assert "trial 2 is better than base by" in status.output
    assert outcome_spec("searched-confirm").arms is not None


def finished(name: str) -> list[Trial]:
    """The trials of a search that came to their end so far."""
    trials = History.look(run_folder(name)).trials.values() if (run_folder(name) / FILE).exists() else ()
    return [trial for trial in trials if trial.status == "FINISHED"]


def test_an_ablation_goes_on_after_kill_9_and_repeats_no_finished_trial(warm: None) -> None:
    name = "apart-ablation"
    shutil.rmtree(run_folder(name), ignore_errors=True)
    with Command(*ABLATE, env=OWN) as command:
        wait_until(lambda: len(finished(name)) >= 2, "two trials")
        kill(command)
    ended = finished(name)
    assert 2 <= len(ended) < 6
    told = {trial.run: [entry.event for entry in read(run_folder(trial.run) / RUN)] for trial in ended}
    values = {trial.ordinal: trial.values for trial in ended}
    waiting = orchestrator("search", "status", name)
    assert "No verdict yet" in waiting.stdout and f"orchestrator search resume {name}" in waiting.stdout
    resumed = orchestrator("search", "resume", name)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    history = History.look(run_folder(name))
    assert [trial.status for trial in history.trials.values()] == ["FINISHED"] * 6
    assert {ordinal: history.trials[ordinal].values for ordinal in values} == values
    for run, events in told.items():
        now = [entry.event for entry in read(run_folder(run) / RUN)]
        records = [[event for event in these if event["event"] == "metric"] for these in (events, now)]
        assert records[0] == records[1] != [], "a finished trial ran again"
    ends = [entry.event["ordinal"] for entry in read(run_folder(name) / FILE) if entry.event["event"] == "end"]
    assert sorted(ends) == list(range(6))
    verdict = (run_folder(name) / "verdict.md").read_text()
    assert verdict.splitlines()[4].startswith("| recipe | ") and verdict.splitlines()[5].startswith("| plain | ")
    _, parent, runs = children(name)
    assert parent.data.tags["arms"] == "ablation" and len(runs) == 6
    assert [run.data.params["schedule.decay.kind"] for run in runs] == ["cosine", "step"] * 3

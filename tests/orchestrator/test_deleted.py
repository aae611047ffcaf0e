"""What is deleted in MLflow is said before a run starts and when it is not taken; the named command restores it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.execution.capacity import Cluster
from orchestrator.execution.plan import plan
from orchestrator.home import default_uri
from orchestrator.prepare import prepare
from orchestrator.tracking import deleted
from orchestrator.tracking.mlflow import Shipper, connect
from orchestrator.tracking.recorder import Recorder
from orchestrator.tracking.sync import sync
from tests.orchestrator.real import job
from tests.orchestrator.test_mlflow import Server, recorder, server  # noqa: F401

pytestmark = pytest.mark.slow


def restore(said: str) -> None:
    """Run the command that a message names."""
    uri, words = re.search(r"MLFLOW_TRACKING_URI=(\S+) mlflow (\w+ restore --[\w-]+ \S+)", said).groups()  # type: ignore[union-attr]
    command = [sys.executable, "-m", "mlflow", *words.split()]
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def recorded(name: str, uri: str | None = None) -> Recorder:
    run = recorder(name, "default", uri=uri)
    run.end("FINISHED")
    run.close()
    return run


def unsent(home: Path) -> str:
    """Why the one run that MLflow lacks is not taken."""
    [result] = sync(home)
    return str(result.error)


@pytest.mark.parametrize("where", ["file", "server"])
def test_a_deleted_experiment_and_a_deleted_run(home: Path, where: str, request: pytest.FixtureRequest) -> None:
    uri = default_uri() if where == "file" else request.getfixturevalue("server").uri
    first = recorded("first", uri)
    assert deleted.before(uri, "default") == "", "there is none yet"
    Shipper(first.folder).ship()
    _, run_id = Shipper(first.folder).target
    client = connect(uri, home / "artifacts")
    experiment = client.get_run(run_id).info.experiment_id
    assert deleted.before(uri, "default", run_id) == ""

    client.delete_experiment(experiment)
    said = f"experiment 'default' is deleted in MLflow; restore it with: MLFLOW_TRACKING_URI={uri} mlflow experiments"
    assert said in deleted.before(uri, "default")
    recorded("second", uri)
    assert said in unsent(home) and "tracking.experiment" in unsent(home)
    lines, fits = plan(prepare(job(f"tracking.uri={uri}"), Cluster.at_hand()))
    assert fits and said in lines["tracking"]
    restore(lines["tracking"])
    assert deleted.before(uri, "default", run_id) == "" and unsent(home) == "None"

    client.delete_run(run_id)
    recorded("first", uri)  # resumed
    said = "the run is deleted in MLflow; restore it with: "
    assert deleted.before(uri, "default", run_id).startswith(said)
    restore(unsent(home))
    assert unsent(home) == "None" and sync(home) == []
    assert prepare(job(f"tracking.uri={uri}"), Cluster.at_hand()).deleted == ""


def test_a_store_that_does_not_answer_stops_no_run(tmp_path: Path) -> None:
    assert deleted.before("http://127.0.0.1:9", "default", "x") == ""
    (tmp_path / "mlflow.db").write_bytes(b"")
    assert deleted.before(f"sqlite:///{tmp_path}/mlflow.db", "default", "x") == ""
    assert deleted.before("postgresql://nobody@127.0.0.1:9/x", "default", "x") == ""

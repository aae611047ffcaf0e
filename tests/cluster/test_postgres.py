"""MLflow for a team, by the plain commands of deploy/mlflow/README.md: PostgreSQL, passwords, four trials at once."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.server import get_app_client
from mlflow.tracking import MlflowClient

from tests.cluster.hosts import CHECKOUT, until

SEARCH = """
name: four
job: jobs/recipes/digits.yaml
set: {resources.workers: 1, resources.cpus_per_worker: 0.5}
space: {batch.label_smoothing.epsilon: {kind: uniform, low: 0, high: 0.2}}
searcher: {kind: random}
budget: {trials: 4, epochs_per_trial: 4}
finish: false
max_concurrent: 4
"""


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """URI of an empty database in a PostgreSQL of its own, which listens on a socket of its own, not as root."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    as_postgres = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": folder}
    password = secrets.token_urlsafe(24)
    (folder / "password").write_text(password)
    (folder / "password").chmod(0o644)
    init = [programs / "initdb", "-D", folder / "data", "-U", "mlflow", "--auth=scram-sha-256"]
    subprocess.run([*init, "--pwfile", folder / "password"], check=True, stdout=subprocess.DEVNULL, **as_postgres)
    server = subprocess.Popen(
        [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses="],
        stderr=(folder / "log").open("w"),
        **as_postgres,
    )
    try:
        ask = [programs / "psql", "-h", folder, "-U", "mlflow", "-d", "postgres", "-c", "CREATE DATABASE runs"]
        environment = os.environ | {"PGPASSWORD": password}
        until(lambda: subprocess.run(ask, env=environment, capture_output=True).returncode == 0, "PostgreSQL answered")
        yield f"postgresql://mlflow:{password}@/runs?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)  # without waiting for who is connected
        server.wait(60)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of the server on it. The environment has the name and the password of a user of it."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = (CHECKOUT / "deploy" / "mlflow" / "auth.ini").read_text()
    assert "sqlite:////artifacts/" in settings
    (folder / "auth.ini").write_text(settings.replace("sqlite:////artifacts/", f"sqlite:///{folder}/"))
    admin, ada = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": admin,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(24),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = ["mlflow", "server", "--app-name", "basic-auth", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--artifacts-destination", folder / "artifacts"],
        env=environment,
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or _answers(uri), "the server answered", 180)
        assert process.poll() is None, (folder / "log").read_text()[-4000:]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
            patch.setenv("MLFLOW_TRACKING_PASSWORD", admin)
            get_app_client("basic-auth", uri).create_user("ada", ada)
            patch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
            patch.setenv("MLFLOW_TRACKING_PASSWORD", ada)
            yield uri
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def _answers(uri: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{uri}/health").status == 200)
    except OSError:
        return False


def _orchestrator(home: Path, uri: str, *arguments: str) -> str:
    """What the command line printed; it has to succeed."""
    environment = os.environ | {"ORCHESTRATOR_HOME": str(home), "MLFLOW_TRACKING_URI": uri}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def _tracked(home: Path, uri: str, *arguments: str) -> str:
    """The same, and all of it in MLflow: on a busy machine, where the server needs seconds to check a password, the run
    may end before its first request is answered; then what is left is sent as the command says.
    """
    told = _orchestrator(home, uri, *arguments)
    return told + (_orchestrator(home, uri, "sync") if "not in MLflow yet" in told else "")


def _runs(client: MlflowClient) -> list[Run]:
    return list(client.search_runs([one.experiment_id for one in client.search_experiments()]))


def test_four_trials_write_at_once_and_nothing_is_lost(server: str, tmp_path: Path) -> None:
    (tmp_path / "four.yaml").write_text(SEARCH)
    home = tmp_path / "home"
    _tracked(home, server, "search", "launch", str(tmp_path / "four.yaml"), "--name", "four")
    client = MlflowClient(server)
    found = _runs(client)
    (parent,) = [run for run in found if run.info.run_name == "four"]
    trials = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert parent.info.status == "FINISHED" and [run.info.status for run in trials] == ["FINISHED"] * 4
    assert len({run.data.params["batch.label_smoothing.epsilon"] for run in trials}) == 4
    for run in trials:
        for metric in ("train/loss", "val/top1"):
            history = client.get_metric_history(run.info.run_id, metric)
            assert sorted(point.step for point in history) == [1, 2, 3, 4]


def test_without_the_password_nobody_reads(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    with pytest.raises(MlflowException, match=r"401|not authenticated"):
        MlflowClient(server).search_experiments()


def test_straight_to_the_database_and_the_password_stays_out(database: str, tmp_path: Path) -> None:
    settings = (
        "-s",
        "epochs=2",
        "-s",
        "resources.workers=1",
        "-s",
        "name=straight",
        "-s",
        "tracking.experiment=straight",
    )
    told = _tracked(tmp_path, database, "train", "jobs/recipes/digits.yaml", *settings)
    (run,) = [run for run in _runs(MlflowClient(database)) if run.info.run_name.startswith("straight")]
    assert run.info.status == "FINISHED" and run.data.metrics["test/top1"] > 0.5
    password = database.split(":")[2].split("@")[0]
    assert password not in told + str(run.data.params) + str(run.data.tags)
    for path in (tmp_path / "runs").rglob("*.*"):
        assert path.is_dir() or password.encode() not in path.read_bytes(), path

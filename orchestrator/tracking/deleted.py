"""What somebody deleted in MLflow, and the command that restores it: MLflow takes nothing for it until then."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.urls import redact
from orchestrator.tracking.uri import full_uri

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_SQLITE = "sqlite:///"
_DELETED = "deleted"
_PATIENCE_S = 5


def before(uri: str, experiment: str, run_id: str = "") -> str:
    """What to say before a run is started; empty where nothing is deleted, or where the store does not answer at once.

    Args:
        uri: of the tracking store, a file or a server; of other databases nothing is known before they are connected.
        experiment: its name.
        run_id: MLflow's id of a run that is resumed.
    """
    if uri.startswith(_SQLITE):
        found = _in_file(Path(uri.removeprefix(_SQLITE)), experiment, run_id)
    else:
        found = _on_server(full_uri(uri), experiment, run_id) if uri.startswith("http") else (None, False)
    said = _cure(uri, experiment, found[0], run_id if found[1] else "")
    return f"{said}. Until then all is recorded here; then send it with: orchestrator sync" if said else ""


def cure(client: MlflowClient, uri: str, experiment: str, run_id: str) -> str:
    """What is deleted, after MLflow refused something, and what restores it; empty where nothing is.

    Args:
        client: of the store.
        uri: of the same.
        experiment: its name.
        run_id: MLflow's id of the run; empty before it was created.
    """
    known = client.get_experiment_by_name(experiment)
    gone = str(known.experiment_id) if known and known.lifecycle_stage == _DELETED else None
    lost = bool(run_id) and client.get_run(run_id).info.lifecycle_stage == _DELETED
    return _cure(uri, experiment, gone, run_id if lost else "")


def _cure(uri: str, experiment: str, experiment_id: str | None, run_id: str) -> str:
    command = f"MLFLOW_TRACKING_URI={redact(uri)} mlflow"
    if experiment_id is not None:
        return (
            f"experiment {experiment!r} is deleted in MLflow; restore it with: {command} experiments restore "
            f"--experiment-id {experiment_id}   or set tracking.experiment to another one"
        )
    return f"the run is deleted in MLflow; restore it with: {command} runs restore --run-id {run_id}" if run_id else ""


def _in_file(path: Path, experiment: str, run_id: str) -> tuple[str | None, bool]:
    """The id of the experiment if it is deleted, and whether the run is."""
    if not path.exists():
        return None, False
    ask = "select experiment_id from experiments where name = ? and lifecycle_stage = ?"
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as store:
        try:
            gone = store.execute(ask, (experiment, _DELETED)).fetchone()
            ask = "select 1 from runs where run_uuid = ? and lifecycle_stage = ?"
            return str(gone[0]) if gone else None, store.execute(ask, (run_id, _DELETED)).fetchone() is not None
        except sqlite3.OperationalError:  # busy, or another MLflow's tables: the recorder says what is wrong
            return None, False


def _on_server(uri: str, experiment: str, run_id: str) -> tuple[str | None, bool]:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    def stage(what: str, key: str, given: dict[str, str]) -> tuple[str, bool]:
        """The id of something, and whether it is deleted."""
        path, patience = f"/api/2.0/mlflow/{what}", {"timeout": _PATIENCE_S, "max_retries": 0}
        try:
            answer = http_request(get_default_host_creds(uri), path, "GET", params=given, **patience)
            found = answer.json()[key] if answer.status_code == 200 else {}
        except (MlflowException, ValueError, LookupError):  # a server that does not answer is no reason not to train
            found = {}
        found = found.get("info", found)
        return str(found.get("experiment_id", "")), found.get("lifecycle_stage") == _DELETED

    known, gone = stage("experiments/get-by-name", "experiment", {"experiment_name": experiment})
    lost = bool(run_id) and stage("runs/get", "run", {"run_id": run_id})[1]
    return known if gone else None, lost

"""Links into MLflow's UI: the compare page of some runs, and all children of a run charted.

Where runs are stored in no server but in a database, links are those of the server that ``orchestrator ui`` starts.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from urllib.parse import quote

from jobs.urls import redact
from orchestrator.home import default_uri, home, run_folder
from orchestrator.tracking.mlflow import Shipper, connect

LOCAL = "http://127.0.0.1:5000"
"""Where ``orchestrator ui`` listens by default."""


def compare(runs: Iterable[str]) -> list[str]:
    """The compare pages of runs that MLflow has, by their names: one for every store that has two or more of them.

    Raises:
        orchestrator.tracking.mlflow.Unreachable: a store does not answer.
    """
    stores: dict[str, list[str]] = {}
    for run in runs:
        uri, run_id = Shipper(run_folder(run)).target
        if run_id:
            stores.setdefault(uri, []).append(run_id)
    links: list[str] = []
    for uri, ids in stores.items():
        if len(ids) > 1:
            found = {run_id: _experiment(uri, run_id) for run_id in ids}
            there = [run_id for run_id, experiment in found.items() if experiment]
            experiments = sorted({experiment for experiment in found.values() if experiment})
            asked = f"runs={quote(json.dumps(there))}&experiments={quote(json.dumps(experiments))}"
            links += [f"{server(uri)}/#/compare-runs?{asked}"] if len(there) > 1 else []
    return links


def children(parent: str, metric: str, ascending: bool) -> str | None:
    """The page with a chart for every metric of all children of a run, in the order of a metric; None where MLflow
    does not have the run.

    Args:
        parent: name of the run.
        metric: by which they are sorted; without one the children would hide under their parent.
        ascending: the smallest first.

    Raises:
        orchestrator.tracking.mlflow.Unreachable: the store does not answer.
    """
    uri, run_id = Shipper(run_folder(parent)).target
    experiment = _experiment(uri, run_id) if run_id else None
    if experiment is None:
        return None
    filter_, order = quote(f"tags.mlflow.parentRunId = '{run_id}'"), quote(f"metrics.`{metric}`")
    return (
        f"{server(uri)}/#/experiments/{experiment}/runs?searchFilter={filter_}&orderByKey={order}"
        f"&orderByAsc={'true' if ascending else 'false'}&compareRunsMode=CHART"
    )


def ui(run: str) -> str:
    """How to open the UI over the store of a run: the address of a server, or the command that starts one."""
    uri = Shipper(run_folder(run)).target[0]
    if uri.startswith("http"):
        return server(uri)
    other = f"MLFLOW_TRACKING_URI={shlex.quote(uri)} " if uri not in ("", redact(default_uri())) else ""
    return f"{other}orchestrator ui"


def server(uri: str) -> str:
    """Address of the UI for a tracking URI."""
    return uri.rstrip("/") if uri.startswith("http") else LOCAL


def _experiment(uri: str, run_id: str) -> str | None:
    """The experiment of a run; None where somebody deleted it."""
    from mlflow.exceptions import MlflowException

    try:
        run = connect(uri, home() / "artifacts").get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return str(run.info.experiment_id) if run.info.lifecycle_stage == "active" else None

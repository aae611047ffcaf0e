"""Links into MLflow's UI for a search: all children charted, and the compare page of the best."""

from __future__ import annotations

import json
from urllib.parse import quote

from orchestrator.home import run_folder
from orchestrator.tracking.mlflow import Shipper, connect
from tuning.launch import Outcome

_TOP = 5


def links(outcome: Outcome, uri: str) -> dict[str, str]:
    """Label -> link or command; empty where MLflow has nothing of the search.

    Args:
        outcome: of the search.
        uri: tracking URI; where it is no server, the links are of one that ``orchestrator ui`` starts.
    """
    stored, parent = Shipper(run_folder(outcome.name)).target
    best = [Shipper(run_folder(trial.run)).target[1] for trial in outcome.ranked[:_TOP]]
    if not parent:
        return {}
    experiment = connect(stored, run_folder(outcome.name).parents[1] / "artifacts").get_run(parent).info.experiment_id
    server = stored.rstrip("/") if stored.startswith("http") else "http://127.0.0.1:5000"
    found = {} if stored.startswith("http") else {"ui": "orchestrator ui   (then open:)"}
    filter_ = quote(f"tags.mlflow.parentRunId = '{parent}'")
    order = quote("metrics.`val/top1`")
    found["trials"] = (
        f"{server}/#/experiments/{experiment}/runs?searchFilter={filter_}&orderByKey={order}&orderByAsc=false"
        "&compareRunsMode=CHART"
    )
    if len(best) > 1:
        runs, experiments = quote(json.dumps(best)), quote(json.dumps([experiment]))
        found["compare"] = f"{server}/#/compare-runs?runs={runs}&experiments={experiments}"
    return found

"""Ray's table of jobs joined with MLflow: how far each is, and how well it does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.urls import redact
from jobs.words import duration
from orchestrator.cluster.client import KIND, NEED, TRACKING, Cluster, Job
from orchestrator.home import default_uri, home
from orchestrator.runs.standing import Standing
from orchestrator.tracking.limits import name_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class Row:
    """A job at a glance.

    Attributes:
        job: Ray's side of it.
        status: of its run in MLflow; empty where that is not known.
        progress: epochs done and in all, or trials.
        best: the best validation accuracy so far, or the best value of a search's metric; empty before the first.
        told_by: ``MLflow``, ``its log``, or nothing.
    """

    job: Job
    status: str = ""
    progress: str = ""
    best: str = ""
    told_by: str = ""

    @property
    def need(self) -> str:
        """What it takes."""
        return self.job.about.get(NEED, "")

    @property
    def age(self) -> str:
        """How long it ran, or has run."""
        if self.job.began is None:
            return ""
        return duration((self.job.ended or time.time()) - self.job.began)


def rows(cluster: Cluster, jobs: Iterable[Job]) -> list[Row]:
    """What is known of the jobs: by MLflow, where that can be reached from here and has the run, else by their logs."""
    stores: dict[str, MlflowClient | None] = {}
    return [_row(cluster, job, stores) for job in jobs]


def _row(cluster: Cluster, job: Job, stores: dict[str, MlflowClient | None]) -> Row:
    if job.run is None:
        return Row(job)
    return _tracked(job, stores) or _logged(cluster, job)


def _tracked(job: Job, stores: dict[str, MlflowClient | None]) -> Row | None:
    from orchestrator.tracking.mlflow import RUN_TAG

    for uri in dict.fromkeys((job.about.get(TRACKING), redact(default_uri()))):
        if not uri:
            continue
        client = stores[uri] if uri in stores else stores.setdefault(uri, _client(uri))
        if client is None:
            continue
        try:
            experiments = [experiment.experiment_id for experiment in client.search_experiments()]
            found = client.search_runs(experiments, f"tags.`{RUN_TAG}` = '{job.run}'", max_results=1)
            if found:
                search = job.about.get(KIND) == "search"
                return _trials(job, found[0]) if search else _epochs(job, client, found[0])
        except Exception:  # it fell silent on the way: the log will do
            stores[uri] = None
    return None


def _client(uri: str) -> MlflowClient | None:
    """The tracking server or database, if it is there."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return None
    from orchestrator.tracking.mlflow import Unreachable, connect

    try:
        return connect(uri, home() / "artifacts")
    except Unreachable:
        return None


def _epochs(job: Job, client: MlflowClient, run: Run) -> Row:
    done = max((point.step for point in client.get_metric_history(run.info.run_id, "train/loss")), default=0)
    scores = [point.value for point in client.get_metric_history(run.info.run_id, "val/top1")]
    in_all = run.data.params.get("epochs", "?")
    return Row(job, run.info.status, f"{done}/{in_all} epochs", _score("val/top1", scores), "MLflow")


def _trials(job: Job, run: Run) -> Row:
    params, found = run.data.params, run.data.metrics
    goals, in_all = json.loads(params.get("objectives", "[]")), params.get("budget.trials", "null")
    metric = goals[0]["metric"] if goals else params.get("metric", "val/top1")
    best = found.get(name_of(f"best/{metric}"))
    progress = f"{found.get('trials/ended', 0):.0f}{'' if in_all == 'null' else f'/{in_all}'} trials"
    return Row(job, run.info.status, progress, _score(metric, [] if best is None else [best]), "MLflow")


def _logged(cluster: Cluster, job: Job) -> Row:
    try:
        log = cluster.logs(job.id)
    except ConnectionError:  # its node is gone
        return Row(job)
    if (standing := Standing.last(log)) is None:
        return Row(job)
    in_all = "" if standing.unit == "trials" else f"/{standing.in_all}"
    best = [] if standing.best is None else [standing.best]
    progress = f"{standing.done}{in_all} {standing.unit}"
    return Row(job, "", progress, _score(standing.metric, best), "its log")


def _score(metric: str, values: list[float]) -> str:
    values = [value for value in values if value == value]
    if not values:
        return ""
    best = max(values)
    return f"{best:.2%}" if metric.endswith(("top1", "top5")) else f"{metric} {best:.4g}"

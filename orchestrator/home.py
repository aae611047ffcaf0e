"""Places under the home folder (``jobs.home``), never in the current directory."""

from __future__ import annotations

import os
from pathlib import Path

from jobs.home import home as home
from jobs.urls import is_url, local


def run_folder(name: str) -> Path:
    """Where the run called ``name`` keeps its spec, journal, checkpoints, model and figures; not made here."""
    return home() / "runs" / name


def run_url(name: str, storage: str | None) -> str:
    """Path or fsspec URL of the folder under which a run's checkpoints and model are written; all nodes reach it.

    Args:
        name: the run.
        storage: ``checkpoint.storage`` of its job.
    """
    if storage is None:
        return str(run_folder(name))
    return f"{storage if is_url(storage) else local(storage)}".rstrip("/") + f"/{name}"


def default_uri() -> str:
    """Where MLflow keeps runs if their spec names no place: MLFLOW_TRACKING_URI, else SQLite under :func:`home`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"

"""Where a home keeps its MLflow database and the artifacts in it, so that a copy of the home is a home of its own.

Paths inside the home are kept relative to it, and what a database or a tracking server says of them is checked.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from jobs.home import close
from orchestrator.tracking.journal import FILE

if TYPE_CHECKING:
    from mlflow.entities import Run

_SQLITE = "sqlite:///"
_LOCATIONS = (  # of MLflow's tables
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def artifacts_folder(run_folder: Path) -> Path:
    """Where the home of a run keeps the artifacts of MLflow runs in its database."""
    return run_folder.absolute().parents[1] / "artifacts"


def relative(uri: str, run_folder: Path) -> str:
    """A tracking URI as it is kept with a run: that of a database in the run's home is relative to the home."""
    home = run_folder.absolute().parents[1]
    path = Path(uri.removeprefix(_SQLITE))
    inside = uri.startswith(_SQLITE) and path.is_relative_to(home)
    return f"{_SQLITE}{path.relative_to(home)}" if inside else uri


def absolute(uri: str, run_folder: Path) -> str:
    """The tracking URI that is kept with a run, as it is now.

    Earlier versions kept absolute paths. Where such a path is of the home that this one was copied or moved from, the
    database of this home is meant; a database elsewhere need not exist yet, but its folder does.
    """
    if not uri.startswith(_SQLITE):
        return uri
    home = run_folder.absolute().parents[1]
    path = home / uri.removeprefix(_SQLITE)  # an absolute path stays as it is
    here, origin = home / path.name, path.parent / "runs" / run_folder.name / FILE
    copied = not path.is_relative_to(home) and here.exists() and (origin.exists() or not path.parent.exists())
    return f"{_SQLITE}{here if copied else path}"


def make_private(database: Path) -> None:
    """Make a SQLite database for its owner only, before anything is in it; SQLite's files beside it are as it is."""
    os.close(os.open(database, os.O_RDWR | os.O_CREAT, 0o600))
    close(database)


def repoint(database: Path, artifacts: Path) -> None:
    """Let a SQLite database of MLflow that was copied or moved with its home name the artifacts beside it.

    Args:
        database: the file; where its first experiment has artifacts is what it was made with.
        artifacts: the folder of artifacts in its home now.
    """
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as store, store:
        found = store.execute("select artifact_location from experiments where experiment_id = 0").fetchone()
        before, after = (found[0] or "").removesuffix("/0") if found else "", artifacts.as_uri()
        old = Path(unquote(urlparse(before).path))
        if before == after or not before.startswith("file:///") or old.name != artifacts.name:
            return
        if old.exists() and artifacts.exists() and old.samefile(artifacts):
            return
        for table, column in _LOCATIONS:
            change = f"update {table} set {column} = ? || substr({column}, ?) where instr({column} || '/', ?) = 1"
            store.execute(change, (after, len(before) + 1, f"{before}/"))


def artifacts_of(run: Run, run_id: str, run_folder: Path) -> Path | None:
    """The folder of an MLflow run's artifacts in this home, links followed; None where they are elsewhere.

    Only the one folder that this run's artifacts have is returned, whatever the database or the server says.

    Args:
        run: as MLflow has it.
        run_id: its id there, as it is kept with the run.
        run_folder: of the same run, in the home.

    Raises:
        ValueError: MLflow names another folder of the home.
    """
    location = urlparse(run.info.artifact_uri)
    if location.scheme not in ("", "file"):
        return None
    path, top = Path(unquote(location.path)), artifacts_folder(run_folder)
    real, home = path.resolve(), top.parent
    if not (path.is_relative_to(home) or real.is_relative_to(home.resolve())):
        return None
    own = top.resolve() / run_id / "artifacts", top.resolve() / run.info.experiment_id / run_id / "artifacts"
    if real not in own or not run_id.isalnum():
        raise ValueError(
            f"MLflow has {path} as the folder of the artifacts of run {run_folder.name}, which should be {own[0]}; "
            "nothing was deleted. Find out who changed it, and correct the run's artifact_uri in MLflow's database"
        )
    return real

"""Where a home keeps artifacts; what a database or a tracking server says of them is checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

if TYPE_CHECKING:
    from mlflow.entities import Run


def artifacts_folder(run_folder: Path) -> Path:
    """Where the home of a run keeps the artifacts of MLflow runs in its database."""
    return run_folder.absolute().parents[1] / "artifacts"


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

"""Where a run comes from: tags with revision, host, versions and Ray's job."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.data.sets import Data

REVISION, DIRTY = "ORCHESTRATOR_REVISION", "ORCHESTRATOR_DIRTY"
"""Environment variables in which ``orchestrator submit`` sends what :func:`revision` found: no ``.git`` travels."""
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable of a driver that Ray's job server started: JSON with the ``metadata`` of the job."""
_TAG = 5000
"""Characters that MLflow takes as a tag's value in every store."""
_UNPACKED = re.compile(r"^.*/working_dir_files/_ray_pkg_[0-9a-f]+(?=/|$)")


def revision() -> dict[str, str]:
    """Commit of the source, and whether it was changed since: as its repository says, else as ``orchestrator submit``
    does; empty where nobody knows.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent)
        return done.stdout.strip() if done.returncode == 0 else ""

    revision = git("rev-parse", "HEAD")
    if revision:
        return {"revision": revision, "revision.dirty": str(bool(git("status", "--porcelain")))}
    sent = os.environ.get(REVISION)
    return {"revision": sent, "revision.dirty": os.environ.get(DIRTY, "")} if sent else {}


def release() -> str:
    """Version of the installed package; of a source tree that is not installed, its revision."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("image-classification-orchestrator")
    except PackageNotFoundError:
        return f"not installed, revision {revision().get('revision', 'unknown')}"


def submission() -> dict[str, str]:
    """The tag that joins a run to the Ray job whose driver this process is; empty where it is none."""
    known = json.loads(os.environ.get(_JOB) or "{}").get("metadata", {}).get("job_submission_id")
    return {"ray.submission_id": known} if known else {}


def here(path: str) -> str:
    """A path into a working directory that Ray unpacked for an earlier job, as it is in this job's; others stay."""
    unpacked = _UNPACKED.match(os.getcwd())
    return _UNPACKED.sub(lambda _: unpacked[0], path) if unpacked else path


def of_data(data: Data) -> dict[str, str]:
    """Tags of the images: their digest, and what a person should know of how they were read."""
    notes = "; ".join(data.notes)
    return {"dataset.digest": data.digest, **({"dataset.notes": notes[:_TAG]} if notes else {})}


def environment() -> dict[str, str]:
    """Host and versions."""
    from importlib.metadata import version

    versions = {f"version.{name}": version(name) for name in ("torch", "torchvision", "timm", "ray")}
    return {"python": platform.python_version(), "host": platform.node(), **versions}

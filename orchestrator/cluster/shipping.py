"""What of this machine travels with a job: the working directory as Ray packs it, this package, some environment."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.urls import redact
from jobs.words import byte_size
from orchestrator.home import default_uri
from orchestrator.runs.origin import DIRTY, REVISION, revision

PACKAGES = ("jobs", "orchestrator", "tuning")
IGNORE = ".rayignore"
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
"""Environment variable of a job: seconds between SIGTERM and SIGKILL when it is stopped; 3 unless set."""
_ANEW = ["__pycache__", "*.pyc", ".git", ".venv", "venv"]
_SECRETS = [".env", ".env.*", ".netrc", ".ssh", "*.pem", "*.key", "auth_token"]
_EXCLUDES = [*_ANEW, *_SECRETS]
"""Never sent: what is made anew there, and where secrets are kept."""
_SECRET = re.compile(
    r"PASSW|SECRET|TOKEN|CREDENTIAL|PRIVATE|SIGNATURE|(^|_)(AUTH|KEY|PAT|PWD|DSN|COOKIE)(_|$|ID$)|APIKEY", re.IGNORECASE
)
_LOOPBACK = re.compile(r"://([^/@]*@)?(localhost|127\.|\[::1\]|0\.0\.0\.0)", re.IGNORECASE)
_SHOWN = 5


@dataclass(frozen=True)
class Shipment:
    """What is sent.

    Attributes:
        folder: the working directory.
        files: path relative to it, or ``<package>/...`` of a package sent beside it -> bytes.
        modules: folders of those packages.
    """

    folder: Path
    files: dict[str, int]
    modules: tuple[Path, ...] = ()

    @property
    def bytes(self) -> int:
        """Of all files; Ray does not compress them."""
        return sum(self.files.values())

    def check(self, max_mb: float) -> None:
        """Check that it is no more than ``max_mb``.

        Raises:
            ValueError: it is more; the message names the largest files and the cure.
        """
        if self.bytes <= max_mb * 2**20:
            return
        largest = sorted(self.files.items(), key=lambda item: -item[1])[:_SHOWN]
        lines = "".join(f"\n  {byte_size(count):>10}  {path}" for path, count in largest)
        raise ValueError(
            f"{self.folder} has {byte_size(self.bytes)} to send, more than the {max_mb:g} MB of --max-mb; the "
            f"largest of {len(self.files)} files:{lines}\n"
            f"Name what the job does not need in {self.folder / IGNORE} (as in a .gitignore), and keep data where the "
            "cluster reaches it: a shared disk or a bucket"
        )

    def holds(self, path: str) -> bool:
        """Whether a file, or something below a folder, is sent; relative to the working directory."""
        wanted = os.path.normpath(path)
        return wanted in self.files or any(name.startswith(f"{wanted}/") for name in self.files)

    def runtime_env(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """Ray's runtime environment of the job."""
        packed: dict[str, Any] = {"working_dir": str(self.folder), "excludes": _EXCLUDES, "env_vars": dict(variables)}
        return packed | ({"py_modules": [str(path) for path in self.modules]} if self.modules else {})


def pack(folder: Path) -> Shipment:
    """What Ray would send of a working directory; nothing is written or sent.

    ``.gitignore`` and ``.rayignore`` of every folder are applied, as Ray does.

    Raises:
        ValueError: there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"the working directory {folder} is no folder; give one with --working-dir")
    folder = folder.resolve()
    files = dict(_travel(folder, folder))
    modules = []
    for package in PACKAGES:
        if f"{package}/__init__.py" not in files:
            found = importlib.util.find_spec(package)
            if found is None or found.origin is None:
                raise ValueError(f"the package {package} is not in {folder} and not installed; install it, or send it")
            modules.append(Path(found.origin).parent)
            files.update((f"{package}/{path}", size) for path, size in _travel(modules[-1], modules[-1]))
    return Shipment(folder, files, tuple(modules))


def _travel(folder: Path, root: Path) -> Iterable[tuple[str, int]]:
    from ray._private.ray_constants import RAY_RUNTIME_ENV_IGNORE_GITIGNORE
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes  # what Ray itself packs by

    found: list[tuple[str, int]] = []

    def keep(path: Path) -> None:
        if path.is_file():
            found.append((str(path.relative_to(root)), path.stat().st_size))

    gitignore = os.environ.get(RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    quiet = logging.getLogger(f"{__name__}.travel")
    quiet.setLevel(logging.WARNING)
    _dir_travel(folder, [_get_excludes(folder, _EXCLUDES)], keep, include_gitignore=gitignore, logger=quiet)
    return found


@dataclass(frozen=True)
class Variables:
    """Environment variables that travel, and remarks on those that do not."""

    values: dict[str, str]
    remarks: list[str] = field(default_factory=list)


def variables(asked: Iterable[str], stop_wait_s: int) -> Variables:
    """What a job gets in its environment. Ray shows it to everybody who sees its table of jobs, so no secrets.

    Args:
        asked: ``NAME`` copies a variable of this environment, ``NAME=VALUE`` sets one.
        stop_wait_s: seconds for a last checkpoint when the job is stopped.

    Raises:
        ValueError: one is not set here, or looks like a secret.
    """
    found = Variables({STOP_WAIT: str(stop_wait_s)})
    origin = revision()
    if origin:
        found.values.update({REVISION: origin["revision"], DIRTY: origin["revision.dirty"]})
    uri = default_uri()
    if redact(uri) != uri:
        found.remarks.append(
            "MLFLOW_TRACKING_URI holds a password, so it is not sent: set it in the environment that the cluster is "
            "started in"
        )
    elif not uri.startswith(("sqlite:", "file:", "/")) and not _LOOPBACK.search(uri):
        found.values["MLFLOW_TRACKING_URI"] = uri
    elif os.environ.get("MLFLOW_TRACKING_URI"):
        found.remarks.append(
            f"MLFLOW_TRACKING_URI is {uri}, on this machine, so it is not sent: the job tracks where the cluster says. "
            "To send it all the same: --env MLFLOW_TRACKING_URI"
        )
    for word in asked:
        name, given, value = word.partition("=")
        if not given and name not in os.environ:
            raise ValueError(f"--env {name}: it is not set here; export it, or write --env {name}=VALUE")
        value = value if given else os.environ[name]
        if _SECRET.search(name) or redact(value) != value:
            raise ValueError(
                f"--env {name} looks like a secret, and Ray shows a job's environment to everybody who sees its table "
                "of jobs. Put secrets into the environment that the cluster is started in (cluster.yaml, a Kubernetes "
                "secret); the job finds them there by name"
            )
        found.values[name] = value
    return found

"""MLflow tracking URIs: what is allowed in a spec, and how passwords stay out of specs, journals and logs."""

from __future__ import annotations

import os
from pathlib import Path

from jobs.urls import redact

_SERVERS = ("http", "https", "databricks")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def check_uri(uri: str) -> str:
    """The URI, if a run can be tracked there from any process and any directory.

    Raises:
        ValueError: it holds a password, is a plain folder, or is relative; the message says what to write instead.
    """
    scheme = uri.split(":", 1)[0].split("+")[0].lower() if ":" in uri else ""
    if redact(uri) != uri:
        raise ValueError(
            f"tracking.uri {redact(uri)!r} was given with a password; leave it out. For a server, set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) in the environment; for "
            "a database, set the whole URI as MLFLOW_TRACKING_URI there"
        )
    if scheme not in _SERVERS + _DATABASES:
        raise ValueError(
            f"tracking.uri {uri!r} is not supported: MLflow has given up plain folders; use a server "
            "(http://host:5000) or a database (sqlite:////absolute/path/mlflow.db)"
        )
    if scheme == "sqlite" and not uri.split("sqlite:///", 1)[-1].startswith("/"):
        raise ValueError(
            f"tracking.uri {uri!r} is relative, and workers run in directories of their own; "
            "write an absolute path after three slashes: sqlite:////absolute/path/mlflow.db"
        )
    return uri


def check_folder(uri: str) -> None:
    """Refuse a SQLite database in a folder that this machine does not have, where no run can be recorded.

    Raises:
        ValueError: it has none.
    """
    scheme, _, path = uri.partition(":///")
    folder = Path(path.partition("?")[0]).parent
    if scheme.lower().split("+")[0] == "sqlite" and not folder.is_dir():
        raise ValueError(f"tracking.uri {uri!r}: there is no folder {folder}; make it, or correct the URI")


def full_uri(uri: str) -> str:
    """The URI to connect with: MLFLOW_TRACKING_URI where ``uri`` is that without its password, else ``uri``."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    return given if redact(given) == uri else uri

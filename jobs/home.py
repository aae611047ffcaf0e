"""Where everything a run writes is kept: ``ORCHESTRATOR_HOME``, by default ``~/.orchestrator``."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder of all runs, caches and the tracking database; made, for its owner only, where it is missing."""
    folder = Path(os.environ.get("ORCHESTRATOR_HOME") or "~/.orchestrator").expanduser().absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder

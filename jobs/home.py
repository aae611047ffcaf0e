"""Where everything a run writes is kept: ``ORCHESTRATOR_HOME``, by default ``~/.orchestrator``."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

log = logging.getLogger(__name__)

FOLDERS = ("artifacts", "cache", "data", "models", "ray", "runs", "teachers")
"""All that is in the home, beside the tracking database."""
_closed: set[Path] = set()


def home() -> Path:
    """The folder of all runs, caches and the tracking database; made, for its owner only, where it is missing.

    What is in it is closed to other users too, since the folder itself may have been made by somebody else. Code that
    torch compiles is kept in it from now on: torch's own place for it is in the temporary folder, where another user
    may have put some before. (Its compiler reads the name when it is imported, by a first forward pass or optimizer.)
    """
    folder = Path(os.environ.get("ORCHESTRATOR_HOME") or "~/.orchestrator").expanduser().absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "cache" / "inductor"))
    if folder not in _closed and os.access(folder, os.W_OK):
        for name in FOLDERS:
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        close(*(folder / name for name in FOLDERS))
        _closed.add(folder)
    return folder


def close(*paths: Path) -> None:
    """Take files and folders of this user away from all others; links, and what is another user's, stay as they are."""
    opened = []
    for path in paths:
        found = path.lstat()
        if not stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o077:
            path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
            opened.append(path.name)
    if opened:
        log.warning("%s in %s was open to other users; only you can open it now", ", ".join(opened), paths[0].parent)

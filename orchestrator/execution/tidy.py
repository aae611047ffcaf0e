"""What Ray leaves in a machine's temporary folder: removed with the cluster, or some days after it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from pathlib import Path

KEPT_S = 3 * 24 * 3600.0
"""How long logs of a cluster that has ended stay, for whoever wonders why something failed."""


def remove_session(session: Path) -> None:
    """Remove the folder of a session, and the links that led into it; a reboot may have emptied the place."""
    shutil.rmtree(session, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        for link in session.parent.iterdir():
            if link.is_symlink() and not link.exists():
                link.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what clusters left that were started in this folder days ago and run no more."""
    oldest = time.time() - KEPT_S
    for session in [*folder.glob("ray/session_2*"), *folder.glob("fork-*")]:
        with contextlib.suppress(FileNotFoundError):  # another process does the same
            sockets = [session / "socket", *session.glob("sockets/*")]
            if session.stat().st_mtime < oldest and not any(map(_answers, sockets)):
                remove_session(session)


def _answers(path: Path) -> bool:
    """Whether somebody listens at that socket."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    except OSError:
        return False
    return True

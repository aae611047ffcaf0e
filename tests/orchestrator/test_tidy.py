"""What clusters leave in the temporary folder goes after some days, but not while they run."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from orchestrator.execution.tidy import KEPT_S, sweep


def session(top: Path, name: str, days: float, sockets: str = "sockets") -> Path:
    """A folder as old as that, with a socket that was bound; where it is."""
    folder = top / name
    (folder / sockets).mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(folder / sockets / "socket"))
    (folder / "log").write_text("why it failed")
    then = time.time() - days * 24 * 3600
    os.utime(folder, (then, then))
    return folder


def test_only_old_clusters_that_run_no_more_are_removed(tmp_path: Path) -> None:
    days = KEPT_S / (24 * 3600)
    old, young = session(tmp_path, "ray/session_2026-1", days + 1), session(tmp_path, "ray/session_2026-2", days - 1)
    running, server = session(tmp_path, "ray/session_2026-3", days + 1), session(tmp_path, "fork-a", days + 1, ".")
    (tmp_path / "ray" / "session_latest").symlink_to(old)
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind(str(running / "sockets" / "raylet"))
        raylet.listen()
        sweep(tmp_path)
        assert {path.name for path in (tmp_path / "ray").iterdir()} == {young.name, running.name}
        assert not server.exists() and (running / "log").exists()
    sweep(tmp_path)
    assert not running.exists() and young.exists()

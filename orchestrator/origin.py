"""Where a run comes from: tags with revision, host and versions."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path


def revision() -> dict[str, str]:
    """Commit of the source, and whether it was changed since; empty outside of a repository."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent)
        return done.stdout.strip() if done.returncode == 0 else ""

    revision = git("rev-parse", "HEAD")
    return {"revision": revision, "revision.dirty": str(bool(git("status", "--porcelain")))} if revision else {}


def environment() -> dict[str, str]:
    """Host and versions."""
    from importlib.metadata import version

    versions = {f"version.{name}": version(name) for name in ("torch", "torchvision", "timm", "ray")}
    return {"python": platform.python_version(), "host": platform.node(), **versions}

"""What is kept between openings of the same data, under ``ORCHESTRATOR_HOME``; all of it may be deleted at any time."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.home import home


def cached(kind: str, key: str, suffix: str) -> Path:
    """Where the cache of that kind (scan, decoded, arrow) keeps ``key``; the file need not be there."""
    return home() / "cache" / kind / f"{key}{suffix}"


def key(*words: object) -> str:
    """A file name that stands for ``words``: 32 hex digits of a hash of their ``repr``."""
    return hashlib.blake2b("\x1f".join(map(repr, words)).encode(), digest_size=16).hexdigest()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; what was written takes the place of ``path`` if nothing went wrong.

    Readers see a whole file or none, and of two writers the last one wins, also after a crash.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)

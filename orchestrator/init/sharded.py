"""Shards as a source: those of a folder or URL that ``orchestrator shards`` wrote, or tar files on this machine."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

from jobs.data import Shards
from jobs.data.image_folder import SPLITS
from jobs.data.remote import listing
from jobs.data.shards.index import INDEX

TAR = ".tar"
_MAGIC = re.compile(r"[*?[]")


def remote(url: str) -> Shards | None:
    """The shards at a URL; None where nobody wrote an index there.

    Raises:
        ValueError: it cannot be looked at.
    """
    url = url.rstrip("/")
    return Shards(root=url) if INDEX in listing(url, [""], "init")[""][1] else None


def local(root: Path, inside: Sequence[Path], tables: bool) -> Shards | None:
    """The shards of a folder; None where it has none: tar files beside folders or tables are archives.

    Args:
        root: the folder, absolute.
        inside: what is in it.
        tables: whether some of that are tables.
    """
    names = [entry.name for entry in inside]
    if INDEX in names:
        return Shards(root=str(root))
    if tables or any(entry.is_dir() for entry in inside):
        return None
    tars = sorted(name for name in names if name.lower().endswith(TAR))
    groups = {split: [name for name in tars if _word(name) in known] for split, known in SPLITS.items()}
    if not groups["train"]:
        return Shards(train=_paths(root, tars, tars)) if tars else None
    train, val, test = (_paths(root, groups[split], tars) for split in ("train", "val", "test"))
    return Shards(train=train, val=val if test else None, test=test or val)


def _word(name: str) -> str:
    """What a file's name begins with: ``train`` of ``train-00012.tar``."""
    return re.split(r"[^a-z]", name.lower(), maxsplit=1)[0]


def _paths(root: Path, names: Sequence[str], every: Sequence[str]) -> tuple[str, ...] | None:
    """One glob where that means these files and no other; else their paths."""
    if not names:
        return None
    pattern = f"{_word(names[0])}*{TAR}" if len(names) < len(every) else f"*{TAR}"
    if len(names) > 1 and not _MAGIC.search(str(root)) and fnmatch.filter(every, pattern) == list(names):
        return (str(root / pattern),)
    return tuple(str(root / name) for name in names)

"""Which images a run or a search is of: kept in its folder when it begins, and compared whenever it is resumed."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.data.identity import check_same, identity
from jobs.data.sets import Data
from orchestrator.tracking.journal import read

FILE = "data.json"


def settle(folder: Path, journal: str, data: Data) -> str:
    """Keep which images a run or search is of, or compare them with those that it began with; returns a note.

    Args:
        folder: of the run or search.
        journal: name of the journal that has its tags, where an earlier version began it.
        data: what was opened.

    Raises:
        jobs.data.identity.OtherDataError: it began with other images or classes.
    """
    path = folder / FILE
    if path.exists():
        return check_same(json.loads(path.read_text(encoding="utf-8")), data, f"{folder.name}")
    note = ""
    if (folder / journal).exists():
        tags = [entry.event.get("tags", {}) for entry in read(folder / journal)]
        digest = next((of["dataset.digest"] for of in tags if "dataset.digest" in of), None)
        note = check_same({"digest": digest} if digest else None, data, f"{folder.name}")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(identity(data), indent=1), encoding="utf-8")
    return note

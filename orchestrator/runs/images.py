"""Which images a run or a search is of: kept in its folder when it begins, and compared whenever it is resumed."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.data.identity import check_same, identity
from jobs.data.sets import Data
from orchestrator.tracking.journal import FILE as JOURNAL
from orchestrator.tracking.journal import read

FILE = "data.json"


def settle(folder: Path, data: Data) -> str:
    """Keep which images a run or search is of, or compare them with those that it began with; returns a note.

    Args:
        folder: of the run or search.
        data: what was opened.

    Raises:
        jobs.data.identity.OtherDataError: it began with other images or classes.
    """
    path, note = folder / FILE, ""
    if (folder / JOURNAL).exists():  # it has begun
        if path.exists():
            return check_same(json.loads(path.read_text(encoding="utf-8")), data, folder.name)
        tags = [entry.event.get("tags", {}) for entry in read(folder / JOURNAL)]  # an earlier version began it
        digest = next((of["dataset.digest"] for of in tags if "dataset.digest" in of), None)
        note = check_same({"digest": digest} if digest else None, data, folder.name)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(identity(data), indent=1), encoding="utf-8")
    return note

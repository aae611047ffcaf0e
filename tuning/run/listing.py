"""The searches under ORCHESTRATOR_HOME at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.lock import holder
from orchestrator.home import home
from orchestrator.tracking.journal import lock_path, read
from tuning.run.history import FILE, History
from tuning.run.results import number, ranked


@dataclass(frozen=True)
class Row:
    """A search at a glance.

    Attributes:
        name: its name.
        state: see :func:`state`; or why its journal cannot be read, and the rest is then empty.
        trials: trials begun, and the budget where it is a number of trials.
        best: the first objective of its best trial; empty before the first value.
        started: Unix seconds.
    """

    name: str
    state: str
    trials: str = ""
    best: str = ""
    started: float = 0.0


def state(folder: Path, history: History) -> str:
    """Whether the search in ``folder`` is running, and who drives it; else how it ended, or ``stopped``."""
    if driver := holder(lock_path(folder / FILE)):
        return f"running ({driver})"
    return history.ending or "stopped"


def searches() -> list[Row]:
    """All of them, the newest first; reads local files only."""
    rows = [_row(path.parent) for path in (home() / "runs").glob(f"*/{FILE}") if not path.parent.name.startswith(".")]
    return sorted(rows, key=lambda row: row.started, reverse=True)


def _row(folder: Path) -> Row:
    try:
        history = History.look(folder)
        started = next((entry.event["time"] for entry in read(folder / FILE)), 0.0)
    except ValueError as error:
        return Row(folder.name, f"unreadable: {error}")
    if history.spec is None:
        return Row(folder.name, "stopped before its first trial", started=started)
    goal, wanted = history.spec.goals[0], history.spec.budget.trials
    best = ranked(list(history.trials.values()), goal)[:1]
    value = f"{goal.metric} {number(best[0].found, goal.metric):.4f}" if best else ""
    trials = str(len(history.trials)) + (f"/{wanted}" if wanted else "")
    return Row(folder.name, state(folder, history), trials, value, started)

"""Brings MLflow up to date with every journal that nobody is writing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.lock import Locked, holder
from orchestrator.tracking.journal import FILE, Event, Journal, lock_path, read
from orchestrator.tracking.mlflow import Shipper, Unreachable
from orchestrator.tracking.places import absolute


@dataclass(frozen=True)
class Synced:
    """What :func:`sync` did for a run: events sent, events left, and why any are."""

    run: str
    shipped: int
    left: int
    error: str | None


def sync(home: Path, again: bool = False) -> list[Synced]:
    """Send what MLflow lacks of every run that nobody is recording, parents first; runs that lack nothing are left out.

    A run whose writer died without ending it is ended as KILLED at its last event.

    Args:
        home: :func:`orchestrator.home.home`.
        again: from the first event of each, after MLflow's database was lost.
    """
    begun: list[tuple[float, Path]] = []
    results: list[Synced] = []
    for path in sorted((home / "runs").glob(f"*/{FILE}")):
        try:
            if holder(lock_path(path)) is None and _bury(path):
                begun.append((read(path)[0].event["time"], path.parent))
        except Locked:
            continue
        except (OSError, ValueError) as error:
            results.append(Synced(path.parent.name, 0, 0, str(error)))
    down: dict[str, str] = {}
    for _, folder in sorted(begun):
        entries = read(folder / FILE)
        shipper, uri = Shipper(folder), absolute(entries[0].event["uri"], folder)
        before = 0 if again else shipper.seq
        why: str | None = None
        if before == entries[-1].seq:
            continue
        if uri in down:
            why = down[uri]
        else:
            try:
                shipper.ship(again=again)
            except Unreachable as unreachable:
                why = down[uri] = str(unreachable)
            except (RuntimeError, OSError, ValueError) as refusal:
                why = str(refusal)
        results.append(Synced(folder.name, max(0, shipper.seq - before), entries[-1].seq - shipper.seq, why))
    return results


def _bury(path: Path) -> bool:
    """End the run in a journal that nobody writes, if it was not; whether there is a run in it."""
    journal = Journal(path)
    try:
        if journal.events and not any(event["event"] == "end" for event in _last_life(journal.events)):
            time = journal.events[-1]["time"]
            journal.append(
                [
                    {"event": "tag", "time": time, "key": "cause", "value": "driver died"},
                    {"event": "end", "time": time, "status": "KILLED"},
                ]
            )
        return bool(journal.events)
    finally:
        journal.close()


def _last_life(events: Sequence[Event]) -> Iterator[Event]:
    return itertools.takewhile(lambda event: event["event"] not in ("begin", "resume"), reversed(events))

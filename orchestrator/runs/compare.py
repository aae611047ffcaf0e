"""Runs side by side: in what their specs differ, and how they ended. Reads journals alone; no server is needed."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.home import home
from orchestrator.runs import store
from orchestrator.tracking.journal import FILE, Event, read

TOP = 10
"""Trials of a search that are shown unless all are asked for."""

_TOP1 = ("val/top1", "test/top1")
_NEVER = frozenset({"name"})  # what a run is called says nothing about it


@dataclass(frozen=True)
class Row:
    """A run to compare.

    Attributes:
        name, status: as in :class:`orchestrator.runs.store.Run`; with what stopped a trial early, or the kind of its
            failure.
        params: its spec by dotted names, with what a member of a population took over.
        epochs: done.
        seconds: that it took, pauses between resumptions not counted.
        values: metric -> the newest; of the validation that of the best epoch, where its weights are selected.
    """

    name: str
    status: str
    params: dict[str, Any]
    epochs: int
    seconds: float
    values: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Runs and what differs between them.

    Attributes:
        rows: in the order asked for; of a search its trials, the best first.
        differing: dotted names of the specs that have not one value in all rows.
        metrics: to show: what the searches among them are judged by, and top-1 of both splits.
        left_out: trials that are not shown.
    """

    rows: list[Row]
    differing: list[str]
    metrics: list[str]
    left_out: int = 0


def compare(names: Sequence[str], most: int | None = TOP) -> Comparison:
    """Compare runs and the trials of searches.

    Args:
        names: of runs and searches; one that is named twice counts once.
        most: trials to show of a search, the best; None shows all.

    Raises:
        ValueError: there is no such run (the message has the nearest names), or no trial in a search yet.
    """
    found: dict[str, Row] = {}
    left_out, goals = 0, list[str]()
    for name in names:
        folder = store.find(name)
        events = _events(folder)
        if events[0]["tags"].get("kind") == "search":
            metric, sign = _goal(events[0])
            trials = _trials(name, events[0], metric, sign)
            goals += [metric, metric.replace("val/", "test/")]
            if not trials:
                raise ValueError(f"search {name} has no trials yet; see orchestrator search status {name}")
            left_out += len(trials[most:]) if most is not None else 0
            found |= {row.name: row for row in trials[:most] if row.name not in found}
        elif name not in found:
            found[name] = _row(folder, events)
    rows = list(found.values())
    known = dict.fromkeys(name for row in rows for name in row.params)
    differing = [name for name in known if name not in _NEVER and len({_key(row, name) for row in rows}) > 1]
    metrics = [name for name in goals if name in _TOP1 or any(name in row.values for row in rows)]
    shown = [name for name in dict.fromkeys((*metrics, *_TOP1)) if name != "seconds"]  # which has a column
    return Comparison(rows, differing, shown, left_out)


def _goal(begin: Event) -> tuple[str, float]:
    """The metric of a search's first objective, and 1 where a higher value is better, else -1."""
    goals = begin["params"].get("objectives") or [begin["params"]]
    return goals[0]["metric"], 1.0 if goals[0]["mode"] == "max" else -1.0


def _trials(search: str, begin: Event, metric: str, sign: float) -> list[Row]:
    """The trials of a search, the best first by its first objective, those without a value last; not those that a
    removed one of its name left."""
    rows = []
    for folder in sorted((home() / "runs").glob(f"{search}-*")):
        events = _events(folder) if (folder / FILE).exists() else []
        own = events and events[0]["parent"] == search and events[0]["time"] >= begin["time"]
        if own and "ordinal" in events[0]["tags"]:
            rows.append(_row(folder, events))

    def place(row: Row) -> tuple[bool, float]:
        value = row.values.get(metric, math.nan)
        return row.status.startswith("FAILED") or math.isnan(value), -sign * value if not math.isnan(value) else 0.0

    return sorted(rows, key=place)


def _row(folder: Path, events: list[Event]) -> Row:
    params = events[0]["params"]
    series: dict[str, dict[int, float]] = {}
    for event in events:
        if event["event"] == "metric":
            series.setdefault(event["name"], {})[event["step"]] = float(event["value"])
    values = {name: points[max(points)] for name, points in series.items()}
    taken = {name.removeprefix("params/"): value for name, value in values.items() if name.startswith("params/")}
    params = params | {name: value for name, value in taken.items() if params.get(name) != value}
    if params.get("select") == "best" and (top1 := series.get("val/top1")):
        chosen = max(sorted(top1), key=lambda epoch: top1[epoch])  # the first of equal ones, as the loop chooses
        evaluated = {name: points for name, points in series.items() if name.startswith("val/")}
        values |= {name: points[chosen] for name, points in evaluated.items() if chosen in points}
    values["seconds"] = sum(series.get("epoch_s", {}).values())  # as a search counts them
    epochs = max((step for name, points in series.items() if name.startswith("train/") for step in points), default=0)
    status: str = store.status_of(folder, events)
    tags = {event["key"]: event["value"] for event in events if event["event"] == "tag"}
    why = tags.get({"FINISHED": "stopped_by", "FAILED": "failure"}.get(status, ""))
    return Row(folder.name, f"{status} ({why})" if why else status, params, epochs, _worked(events), values)


def _events(folder: Path) -> list[Event]:
    return [entry.event for entry in read(folder / FILE)]


def _worked(events: list[Event]) -> float:
    """Seconds between the events of each life of a run."""
    total = 0.0
    for before, event in itertools.pairwise(events):
        if event["event"] != "resume":
            total += max(0.0, event["time"] - before["time"])
    return total


def _key(row: Row, name: str) -> str:
    return json.dumps(row.params[name], sort_keys=True) if name in row.params else ""

"""The trials of a search as a table, the best first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs.names import printable
from tuning.run.results import Trial, number, ranked
from tuning.spec.arms import Arms
from tuning.spec.search import SearchSpec
from tuning.studies.verdict import judge, judged


def board(spec: SearchSpec, trials: Sequence[Trial], title: str, running: bool, most: int) -> Table:
    """The table.

    Args:
        spec: the search.
        trials: in any order.
        title: above it.
        running: whether a driver works, so that trials without an end are under way.
        most: rows to show; those under way and the best come first.
    """
    goal = spec.goals[0]
    params = {trial.ordinal: spec.told(trial.ordinal, trial.params) for trial in trials}
    names = list(dict.fromkeys(name for drawn in params.values() for name in drawn))
    table = Table(title=Text(title), title_justify="left", caption=summary(trials, running), caption_justify="left")
    table.add_column("trial", justify="right")
    for name in names:
        table.add_column(Text(short(name, names)), justify="right", overflow="fold")
    table.add_column("epoch", justify="right")
    table.add_column(Text(goal.metric), justify="right")
    table.add_column("state", overflow="fold")

    best = [trial for trial in ranked(trials, goal) if trial.status != "RUNNING"]
    under_way = [trial for trial in trials if trial.status == "RUNNING"]
    rest = [trial for trial in trials if trial not in best and trial not in under_way]
    for trial in [*ranked(under_way, goal), *(t for t in under_way if not t.results), *best, *rest][:most]:
        value = number(trial.found, goal.metric)
        state = {"RUNNING": "running" if running else "unfinished", "FINISHED": "finished", "FAILED": "failed"}
        ended = f"stopped by {trial.stopped_by}" if trial.stopped_by else state[trial.status]
        if trial.status == "FAILED":
            ended = f"failed ({trial.kind}): {trial.cause}"
        table.add_row(
            str(trial.ordinal),
            *(
                Text(printable(text(params[trial.ordinal][name]))) if name in params[trial.ordinal] else ""
                for name in names
            ),
            str(max(trial.results, default=0)),
            "" if math.isnan(value) else f"{value:.4f}",
            Text(ended),
        )
    return table


def arms_board(arms: Arms) -> Table:
    """What each arm changes."""
    table = Table()
    table.add_column("arm")
    table.add_column("changes", overflow="fold")
    for arm, changes in arms.jobs.items():
        table.add_row(Text(printable(arm)), Text(printable(listed(changes)) or "the job as it is"))
    return table


def verdict_board(spec: SearchSpec, trials: Sequence[Trial], title: str, over: bool) -> Group:
    """The verdict on the arms of a search, which may be over: a table with that title, its headline and its notes."""
    assert spec.arms is not None
    found = judge(spec.arms, trials, judged(spec), over)
    table = Table(title=Text(title), title_justify="left")
    for name in found.columns:
        left = name in ("arm", "against", "verdict")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for row in found.rows:
        table.add_row(*map(Text, row.cells))
    return Group(table, Text(printable(found.headline), style="bold"), *(Text(printable(note)) for note in found.notes))


def summary(trials: Sequence[Trial], running: bool) -> str:
    """How many trials ended, and how."""
    ended = sum(trial.status != "RUNNING" for trial in trials)
    failed = sum(trial.status == "FAILED" for trial in trials)
    stopped = sum(bool(trial.stopped_by) for trial in trials)
    under_way = f", {len(trials) - ended} {'under way' if running else 'unfinished'}" if ended < len(trials) else ""
    return f"{ended} trials ended, {stopped} of them stopped early, {failed} failed{under_way}"


def short(name: str, names: Sequence[str]) -> str:
    """The last parts of a dotted name, as many as no other name ends with."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        short = ".".join(parts[-length:])
        if sum(other == short or other.endswith(f".{short}") for other in names) == 1:
            return short
    return name


def listed(params: Mapping[str, Any]) -> str:
    """Names and values in a line."""
    return ", ".join(f"{name} {text(value)}" for name, value in params.items())


def text(value: object) -> str:
    """A parameter as a person reads it, of a mapping with a kind the kind alone; empty for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    if isinstance(value, dict) and "kind" in value:
        return str(value["kind"])
    if isinstance(value, dict):
        return ", ".join(f"{name}: {text(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) or "none"
    return "none" if value is None else str(value)

"""Links into MLflow's UI for a search: all children charted, and the compare page of winner, base and best trials."""

from __future__ import annotations

from orchestrator.runs.links import LOCAL, children, compare, ui
from tuning.run.launch import Outcome
from tuning.spec.search import SearchSpec

_TOP = 5


def links(outcome: Outcome, spec: SearchSpec) -> dict[str, str]:
    """Label -> link or command; empty where MLflow has nothing of the search, or does not answer."""
    goal = next((goal for goal in spec.goals if goal.metric.startswith(("val/", "train/"))), None)
    metric, ascending = (goal.metric, goal.mode == "min") if goal else ("val/top1", False)
    if goal is spec.goals[0] and metric.startswith("val/") and spec.base().select == "best":
        metric = f"best/{metric}"  # as trials are judged
    try:
        charts = children(outcome.name, metric, ascending)
        pages = compare(dict.fromkeys(trial.run for trial in (*outcome.last.values(), *outcome.ranked[:_TOP])))
    except ConnectionError:
        return {}
    if charts is None:
        return {}
    started = f"{ui(outcome.name)}   # open the address that it prints, then:"
    found = {"ui": started} if charts.startswith(LOCAL) else {}
    return {**found, "trials": charts, **({"compare": pages[0]} if pages else {})}

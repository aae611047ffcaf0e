"""When a search is over: its budget, and how long nothing has improved."""

from __future__ import annotations

import math

from tuning.run.history import History
from tuning.spec.search import SearchSpec


def left_s(spec: SearchSpec, history: History) -> float:
    """Seconds that are left of ``budget.hours``; infinite without such a limit."""
    return math.inf if spec.budget.hours is None else spec.budget.hours * 3600 - history.spent_s


def reached(spec: SearchSpec, history: History, reserve_s: float) -> str | None:
    """Which limit is reached, so that no more trials may run; None while there is none.

    Args:
        spec: the search.
        history: of it.
        reserve_s: seconds that the runs at its end take; half of ``budget.hours`` at most is kept for them.
    """
    budget, stale = spec.budget, spec.stop.stale_trials
    if left_s(spec, history) <= min(reserve_s, (budget.hours or 0.0) * 1800):
        return "hours"
    if history.final is not None:  # trials are over, and only time can stop the runs at the end
        return None
    if budget.total_epochs is not None and history.epochs >= budget.total_epochs:
        return "total_epochs"
    if stale is not None and history.stale(spec.goals) >= stale:
        return "stale_trials"
    return None

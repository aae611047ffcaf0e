"""Figures of a search: how trials learned, how fast the best was found, what mattered, and the front."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from orchestrator.runs.figures import blank
from tuning.report.findings import Findings
from tuning.report.importance import Importance
from tuning.report.ink import BLUE, GREY, GRID, INK, Ids, Ink, limits, mark, title
from tuning.report.scales import fence
from tuning.run.history import Trial, number
from tuning.spec.objective import METRICS, Mode
from tuning.studies.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def learning_curves(findings: Findings) -> Figure | str:
    """The metric of every trial by epoch, the best on top, with a mark for how it ended; or why there is none."""
    from matplotlib.ticker import MaxNLocator

    metric, mode = _curve_metric(findings)
    shown = [trial for trial in findings.trials if _points(trial, metric)]
    if not shown:
        return "no trial has finished an epoch yet"
    figure, ink, ids = blank(10, 5), Ink(findings), Ids()
    axes = figure.add_subplot()
    rank = {trial.ordinal: place for place, trial in enumerate(findings.ranked)}
    shown.sort(key=lambda trial: -rank.get(trial.ordinal, len(rank)))
    for trial in shown:
        epochs, values = zip(*_points(trial, metric), strict=True)
        best = rank.get(trial.ordinal) == 0
        style: dict[str, Any] = {"color": ink.of(trial), "linewidth": 2.6 if best else 1.3}
        axes.plot(epochs, values, linestyle="--" if trial.status == "FAILED" else "-", gid=ids(trial), **style)
        axes.plot(epochs[-1:], values[-1:], mark(trial), color=ink.of(trial), markersize=5, gid=ids(trial))
    for symbol, label in dict.fromkeys((mark(trial), _end(trial)) for trial in shown):
        axes.plot([], [], symbol, color=INK, markersize=5, label=label)
    limits(axes.set_ylim, *fence([value for trial in shown for _, value in _points(trial, metric)], mode))
    last = max(epoch for trial in shown for epoch, _ in _points(trial, metric))
    title(axes, f"{metric} by epoch")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    limits(axes.set_xlim, 1, last)
    axes.legend(frameon=False, fontsize=9)
    if findings.ranked:
        ink.bar(figure, axes)
    return figure


def importances(found: Importance) -> Figure:
    """A bar for each parameter, with the middle 80 % over resamples of the trials."""
    names = list(found.shares)[::-1]
    figure = blank(10, 1.3 + 0.42 * len(names))
    axes = figure.add_subplot()
    axes.barh(names, [found.shares[name] for name in names], color=BLUE if found.sure else GREY, height=0.6)
    for row, name in enumerate(names):
        axes.plot([found.low[name], found.high[name]], [row, row], color=INK, linewidth=1.4, solid_capstyle="butt")
    axes.set_xlim(0, max(1e-9, *found.high.values(), *found.shares.values()) * 1.08)
    axes.set_xlabel("share of the variance that it explains alone (line: middle 80 % over resamples of the trials)")
    _rows(axes)
    return figure


def differences(verdict: Verdict) -> Figure | str:
    """What each question came to: its pairs, their mean, and the interval where there is a verdict."""
    rows = [row for row in verdict.rows if row.differences][::-1]
    if not rows:
        return "no pair of runs has ended yet"
    figure = blank(10, 1.3 + 0.42 * len(rows))
    axes = figure.add_subplot()
    axes.axvline(0.0, color=INK, linewidth=1.0)
    for place, row in enumerate(rows):
        told = row.found is not None and row.found.different
        colour = BLUE if told else GREY
        axes.plot(row.differences, [place] * len(row.differences), "o", color=colour, alpha=0.35, markersize=4)
        axes.plot([math.fsum(row.differences) / len(row.differences)], [place], "o", color=colour, markersize=8)
        if row.found is not None:
            axes.plot([row.found.low, row.found.high], [place, place], color=colour, linewidth=2.2)
    axes.set_yticks(range(len(rows)), [f"{row.label} against {row.against}" for row in rows])
    axes.set_xlabel("difference in points of test accuracy (blue: told from 0)")
    _rows(axes)
    return figure


def _rows(axes: Axes) -> None:
    """The look of a figure whose rows have names."""
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def best_so_far(findings: Findings) -> Figure | str:
    """The best value by the time that drivers have worked, and all others as points; or why there is none."""
    steps = findings.best_so_far()
    if not steps:
        return "no trial has ended with a value yet"
    unit, name = next((unit, name) for unit, name in _UNITS if findings.seconds >= 2 * unit or unit == 1)
    figure, ink, ids = blank(10, 4.2), Ink(findings), Ids()
    axes = figure.add_subplot()
    times = [at / unit for at, _, _ in steps] + [findings.seconds / unit]
    axes.plot(times, [*(value for _, value, _ in steps), steps[-1][1]], drawstyle="steps-post", color=BLUE, linewidth=2)
    for trial in findings.ranked[::-1]:
        if trial.ordinal in findings.ended:
            at, value = findings.ended[trial.ordinal] / unit, findings.value(trial)
            axes.plot(at, value, mark(trial), color=ink.of(trial), markersize=6, gid=ids(trial), zorder=3)
    limits(axes.set_ylim, *fence([findings.value(trial) for trial in findings.ranked], findings.goal.mode))
    title(axes, f"Best {findings.goal.metric} so far: {steps[-1][1]:.4f} by trial {steps[-1][2].ordinal}")
    axes.set_xlabel(f"{name} of work, pauses between resumptions not counted")
    axes.set_xlim(left=0)
    ink.bar(figure, axes)
    return figure


def front(findings: Findings) -> Figure | str:
    """The first objective against each other one, and the trials on the front; or why there is none."""
    goals, on = findings.spec.goals, findings.front()
    if not on:
        return "no trial has finished with all objectives yet"
    figure, ids = blank(5.6 * (len(goals) - 1) + 0.8, 4.6), Ids()
    best = {trial.ordinal for trial in on}
    for column, other in enumerate(goals[1:], 1):
        axes = figure.add_subplot(1, len(goals) - 1, column)
        for trial in findings.ranked:
            x, y = findings.value(trial, other.metric), findings.value(trial)
            if trial.ordinal not in best and math.isfinite(x):
                axes.plot(x, y, "o", color=GREY, markersize=5, alpha=0.7, gid=ids(trial))
        points = sorted((findings.value(trial, other.metric), findings.value(trial), trial.ordinal) for trial in on)
        if len(goals) == 2:
            where = "steps-post" if other.mode == "min" else "steps-pre"
            axes.plot(*zip(*[(x, y) for x, y, _ in points], strict=True), drawstyle=where, color=BLUE, linewidth=1.5)
        for trial in on:
            x, y = findings.value(trial, other.metric), findings.value(trial)
            axes.plot(x, y, "o", color=BLUE, markersize=7, gid=ids(trial), zorder=3)
            axes.annotate(str(trial.ordinal), (x, y), (5, 5), textcoords="offset points", fontsize=8, color=INK)
        axes.set_xlabel(f"{other.metric} ({'more' if other.mode == 'max' else 'less'} is better)")
        axes.set_ylabel(f"{goals[0].metric} ({'more' if goals[0].mode == 'max' else 'less'} is better)")
        title(axes, f"{len(on)} trials that none beats in all objectives" if column == 1 else "")
    return figure


def _curve_metric(findings: Findings) -> tuple[str, Mode]:
    """The first objective that is learned; seconds and the like have no curve worth a look."""
    for goal in findings.spec.goals:
        if goal.metric.startswith(("val/", "train/")):
            return goal.metric, goal.mode
    return "val/top1", METRICS["val/top1"]


def _points(trial: Trial, metric: str) -> list[tuple[int, float]]:
    points = [(epoch, number(values, metric)) for epoch, values in sorted(trial.results.items())]
    return [(epoch, value) for epoch, value in points if math.isfinite(value)]


def _end(trial: Trial) -> str:
    ended = {"RUNNING": "not ended", "FAILED": "failed"}
    return ended.get(trial.status, f"stopped by {trial.stopped_by}" if trial.stopped_by else "finished")

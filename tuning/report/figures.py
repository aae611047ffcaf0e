"""Figures of a search: how trials learned, how soon the best was found, what matters, the front, and verdicts."""

from __future__ import annotations

import math

from tuning.report.chart import (
    BLUE,
    GREY,
    INK,
    TRIAL,
    Chart,
    axis,
    chart,
    folded,
    lines,
    margin,
    mark,
    shades,
    shapes,
    table,
    when,
)
from tuning.report.findings import Findings
from tuning.report.importance import Importance
from tuning.report.scales import fence
from tuning.run.results import Trial, number
from tuning.spec.objective import METRICS, Mode, Objective
from tuning.studies.verdict import JUDGED, Verdict

_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_POINT: Chart = {"filled": True, "size": 55, "clip": True}
_ROW = 38
"""Pixels of a row with a name."""


def learning_curves(findings: Findings) -> Chart | str:
    """The metric of every trial by epoch, the best on top, with a mark for how it ended; or why there is none."""
    metric, mode = _curve_metric(findings)
    ranks = {trial.ordinal: rank for rank, trial in enumerate(findings.ranked)}
    shown = sorted(findings.trials, key=lambda trial: -ranks.get(trial.ordinal, len(ranks)))
    curves = [(trial, points) for trial in shown if (points := _points(trial, metric))]
    if not curves:
        return "no trial has finished an epoch yet"
    rows = [(trial.ordinal, epoch, value, epoch == at[-1][0]) for trial, at in curves for epoch, value in at]
    last = max(row[1] for row in rows)
    domain = [1, last + 0.015 * (last - 1)] if last > 1 else [0.5, 1.5]
    place = {
        "x": axis("epoch", "epoch", domain, tickMinStep=1, format="d", grid=False),
        "y": axis("at", metric, margin(*fence([row[2] for row in rows], mode))),
    }
    colour = shades(findings.goal.metric, findings.goal.mode, map(findings.value, findings.ranked))
    dashed = when("datum.ended === 'failed'", [5, 4], [1, 0])
    shape = {"shape": shapes(trial for trial, _ in curves), "color": {**colour, "legend": None}}
    return chart(
        340,
        table("trial,epoch,at,ends", rows),
        *lines({**place, "color": colour, "strokeDash": dashed}),
        mark("point", {**place, **TRIAL, **shape}, transform=[{"filter": "datum.ends"}], **_POINT),
        resolve={"scale": {"color": "independent"}},  # one legend of lines and points would have no gradient
    )


def best_so_far(findings: Findings) -> Chart | str:
    """The best value by the time that drivers have worked, and all others as points; or why there is none."""
    steps, goal = findings.best_so_far(), findings.goal
    if not steps:
        return "no trial has ended with a value yet"
    unit, name = next((unit, name) for unit, name in _UNITS if findings.seconds >= 2 * unit or unit == 1)
    last, values = findings.seconds / unit, [findings.value(trial) for trial in findings.ranked]
    place = {
        "x": axis("time", [f"{name} of work", "(pauses between resumptions not counted)"], [0, last * 1.01]),
        "y": axis("at", goal.metric, margin(*fence(values, goal.mode))),
    }
    best = table("time,at", [*((at / unit, value) for at, value, _ in steps), (last, steps[-1][1])])
    ended = [trial for trial in findings.ranked[::-1] if trial.ordinal in findings.ended]
    rows = [(trial.ordinal, findings.ended[trial.ordinal] / unit, findings.value(trial)) for trial in ended]
    shape = {"color": shades(goal.metric, goal.mode, values), "shape": shapes(ended)}
    return chart(
        290,
        table("trial,time,at", rows),
        mark("line", place, best, interpolate="step-after", color=BLUE, strokeWidth=2, clip=True),
        mark("point", {**place, **TRIAL, **shape}, **_POINT),
    )


def front(findings: Findings, other: Objective) -> Chart | str:
    """The first objective against another one, and the trials on the front; or why there is none."""
    goals, best = findings.spec.goals, {trial.ordinal for trial in findings.front()}
    if not best:
        return "no trial has finished with all objectives yet"
    shown = [trial for trial in findings.ranked if math.isfinite(findings.value(trial, other.metric))]
    shown.sort(key=lambda trial: trial.ordinal in best)
    rows = [(t.ordinal, findings.value(t, other.metric), findings.value(t), t.ordinal in best) for t in shown]
    place = {}
    for way, goal, values in (("x", other, [row[1] for row in rows]), ("y", goals[0], [row[2] for row in rows])):
        title = f"{goal.metric} ({'more' if goal.mode == 'max' else 'less'} is better)"
        place[way] = axis(way, title, margin(min(values), max(values)))
    on, step = [{"filter": "datum.on"}], "step-after" if other.mode == "min" else "step-before"
    colour = {"color": when("datum.on", BLUE, GREY), "shape": shapes(shown)}
    label = {**place, "text": {"field": "trial"}, "opacity": TRIAL["opacity"]}
    return chart(
        320,
        table("trial,x,y,on", rows),
        *([mark("line", place, transform=on, interpolate=step, color=BLUE)] if len(goals) == 2 else []),
        mark("point", {**place, **TRIAL, **colour}, **_POINT),
        mark("text", label, transform=on, align="left", dx=7, dy=-7),
    )


def importances(found: Importance) -> Chart:
    """A bar for each parameter, with the middle 80 % over resamples of the trials."""
    rows = []
    for name, share in found.shares.items():
        low, high = found.low[name], found.high[name]
        text = f"{name}\nshare {share:.0%}, middle 80 % over resamples {low:.0%} to {high:.0%}"
        rows.append({"name": folded(name, 22), "share": share, "low": low, "high": high, "text": text})
    most = max(1e-9, *found.high.values(), *found.shares.values())
    x = axis("share", ["share of the variance", "that it explains alone"], [0, most * 1.08], format="%")
    return _named(
        rows,
        mark("bar", {"x": x}, color=BLUE if found.sure else GREY),
        mark("rule", {"x": {**x, "field": "low"}, "x2": {"field": "high"}}, color=INK, strokeWidth=2),
    )


def differences(verdict: Verdict) -> Chart | str:
    """The answer to each question: its pairs, their mean, and the interval where there is a verdict."""
    rows = []
    for row in verdict.rows:
        if row.differences:
            found, name = row.found, f"{row.label}\nagainst {row.against}"
            mean = math.fsum(row.differences) / len(row.differences)
            text = f"{name}\nmean {mean:+.2f} points"
            text += f", interval {found.low:+.2f} to {found.high:+.2f}" if found else ""
            text += f"\nseeds {', '.join(f'{pair:+.2f}' for pair in row.differences)}"
            values: Chart = {"name": name, "mean": mean, "pairs": row.differences, "text": text}
            values["colour"] = BLUE if found and found.different else GREY
            rows.append(values | ({"low": found.low, "high": found.high} if found else {}))
    if not rows:
        return "no pair of runs has ended yet"
    ends = [value for row in rows for value in (*row["pairs"], row.get("low", 0.0), row.get("high", 0.0))]
    x = axis("mean", ["difference in points", f"of {JUDGED[verdict.metric]}"], margin(min(ends), max(ends)))
    colour = {"color": {"field": "colour", "type": "nominal", "scale": None}}
    interval = {**colour, "x": {**x, "field": "low"}, "x2": {"field": "high"}}
    pairs = [{"flatten": ["pairs"], "as": ["pair"]}]
    return _named(
        rows,
        mark("rule", {"x": {"datum": 0}, "y": None}, color=INK),
        mark("rule", interval, transform=[{"filter": "isValid(datum.low)"}], strokeWidth=1.8),
        mark("point", {**colour, "x": {**x, "field": "pair"}}, transform=pairs, filled=True, size=32, opacity=0.7),
        mark("point", {**colour, "x": x}, filled=True, size=90, opacity=1),
    )


def _named(rows: list[Chart], *layers: Chart) -> Chart:
    """A chart whose rows have names and texts, in the order given."""
    look = {"labelExpr": "split(datum.label, '\\n')", "labelLimit": 170, "labelPadding": 8}
    axis = {**look, "ticks": False, "domain": False}
    y = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": axis}
    shared = {"y": y, "tooltip": {"field": "text", "type": "nominal"}}
    return chart(_ROW * len(rows), {"values": rows}, *layers, transform=[], encoding=shared)


def _curve_metric(findings: Findings) -> tuple[str, Mode]:
    """The first objective that is learned; seconds and parameters have no curve worth a look."""
    for goal in findings.spec.goals:
        if goal.metric.startswith(("val/", "train/")):
            return goal.metric, goal.mode
    return "val/top1", METRICS["val/top1"]


def _points(trial: Trial, metric: str) -> list[tuple[int, float]]:
    points = [(epoch, number(values, metric)) for epoch, values in sorted(trial.results.items())]
    return [(epoch, value) for epoch, value in points if math.isfinite(value)]

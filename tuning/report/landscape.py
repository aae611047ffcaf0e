"""Figures of what a search tried: parameters side by side, the metric over two of them, and who took over weights."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from tuning.report.board import short
from tuning.report.chart import INK, TRIAL, Chart, axis, chart, folded, lines, mark, shades, table, when
from tuning.report.findings import ENOUGH, Findings
from tuning.report.importance import Array
from tuning.report.scales import Scale, fence, line
from tuning.run.results import Trial, number

COLUMN = 112
"""Least pixels of a column of parallel coordinates."""
_NONE = -0.1
"""Where a column has what was not drawn."""
_STAR = "M0,-1L.22,-.31L.95,-.31L.36,.12L.59,.81L0,.38L-.59,.81L-.36,.12L-.95,-.31L-.22,-.31Z"
_GRID = 48


def parallel(findings: Findings, scales: Mapping[str, Scale]) -> Chart | str:
    """One line a trial through its parameters to its value, dashed where it did not finish; or why there is none."""
    trials, goal = findings.ranked[::-1], findings.goal
    if not trials or not scales:
        return "no trial has a value yet" if scales else "nothing was varied"
    values = [findings.value(trial) for trial in trials]
    end, names = line(*fence(values, goal.mode)), [*scales, goal.metric]
    rows: list[tuple[float, ...]] = []
    for trial in trials:
        at = [scale.place(trial.params[name]) if name in trial.params else _NONE for name, scale in scales.items()]
        at.append(end.place(findings.value(trial)))
        rows += [(trial.ordinal, column, place) for column, place in enumerate(at) if math.isfinite(place)]
    labels = list[Chart]()
    for column, (name, scale) in enumerate(zip(names, [*scales.values(), end], strict=True)):
        missing = name in scales and any(name not in trial.params for trial in trials)
        ticks = [*scale.ticks, *([(_NONE, "not drawn")] if missing else [])]
        labels += [{"column": column, "place": at, "text": label, "low": 0, "high": 1} for at, label in ticks]
    heads = json.dumps([folded(short(name, names)) for name in names])
    look: Chart = {
        "orient": "top",
        "labelAngle": 0,
        "labelPadding": 6,
        "domain": False,
        "ticks": False,
        "labelFontSize": 12,
    }
    look["labelExpr"] = f"split({heads}[datum.value], '\\n')"
    lowest = min([0.0, *(label["place"] for label in labels)])
    y = {**axis("place", "", [lowest - 0.05, 1.04]), "axis": None}
    x = {"field": "column", "type": "ordinal", "title": None, "axis": look, "scale": {"padding": 0.35}}
    place = {"x": x, "y": y}
    text: Chart = {"align": "right", "baseline": "middle", "dx": -5, "fontSize": 11}
    halo: Chart = {"stroke": "white", "strokeWidth": 3.5, "strokeJoin": "round", "strokeOpacity": 0.85}
    label, there = {**place, "text": {"field": "text"}}, {"values": labels}
    colour = {"color": shades(goal.metric, goal.mode, values)}
    return chart(
        360,
        table("trial,column,place", rows),
        *lines({**place, **colour, "strokeDash": when("datum.ended !== 'finished'", [5, 4], [1, 0])}),
        mark("rule", {**place, "y": {**y, "field": "low"}, "y2": {"field": "high"}}, there, color=INK),
        mark("text", label, there, **text, **halo),
        mark("text", label, there, **text, color=INK),
    )


def contour(findings: Findings, scales: Mapping[str, Scale], names: Sequence[str]) -> Chart | str:
    """The metric over two parameters: the trials, and where there are enough a surface through them; or why none."""
    values, _ = findings.comparable()
    goal, pair = findings.goal, [scales[name] for name in names]
    trials = [trial for trial in findings.ranked[::-1] if trial.ordinal in values and set(names) <= trial.params.keys()]
    if not trials:
        return "no trial can be compared yet"
    x, y = (np.array([scales[name].place(trial.params[name]) for trial in trials]) for name in names)
    z = [values[trial.ordinal] for trial in trials]
    best = max(range(len(z)), key=lambda at: goal.worth(z[at]))
    rows = [(trial.ordinal, x[at], y[at], z[at], at == best) for at, trial in enumerate(trials)]
    place: Chart = {}
    for way, name, scale in zip("xy", names, pair, strict=True):
        places, labels = zip(*scale.ticks, strict=True)
        label = f"{json.dumps(labels)}[indexof({json.dumps(places)}, datum.value)]"
        place[way] = axis(way, name, [-0.03, 1.03], values=places, labelExpr=label)
    place["color"] = shades(goal.metric, goal.mode, z, "z")
    star = {"shape": when("datum.best", _STAR, "circle"), "size": when("datum.best", 420, 110)}
    layers = [mark("point", {**place, **TRIAL, **star}, filled=True, stroke="white", strokeWidth=1)]
    low, high = fence(z, goal.mode)
    if len(z) >= ENOUGH and all(scale.ordered for scale in pair) and high > low:
        # each tile reaches under its neighbours, or seams would show; white over them makes them pale
        tiles, over = (
            {**place, "x2": {"field": "x2"}, "y2": {"field": "y2"}},
            {"values": [{"x": 0, "y": 0, "x2": 1, "y2": 1}]},
        )
        white = {way: at for way, at in tiles.items() if way != "color"}
        layers.insert(0, mark("rect", white, over, color="white", opacity=0.45))
        layers.insert(0, mark("rect", tiles, table("x,y,x2,y2,z", _surface(x, y, np.clip(z, low, high)))))
    return chart(380, table("trial,x,y,z,best", rows), *layers)


def _surface(x: Array, y: Array, z: Array) -> list[tuple[float, ...]]:
    """Tiles of a smooth surface without the noise between neighbours: a Gaussian process, its settings fitted."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    kernel = 1.0 * RBF([0.3, 0.3], (0.1, 10.0)) + WhiteKernel(0.1, (1e-4, 10.0))
    across, up = (part.ravel() for part in np.meshgrid(np.arange(_GRID) / _GRID, np.arange(_GRID) / _GRID))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about settings that end at a bound
        process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
        process.fit(np.column_stack([x, y]), z)
    heights = process.predict(np.column_stack([across, up]) + 0.5 / _GRID)
    right, top = (np.minimum(1.0, corner + 1.2 / _GRID) for corner in (across, up))
    return list(zip(across, up, right, top, heights, strict=True))


def lineage(findings: Findings) -> Chart:
    """A row a trial, coloured epoch by epoch by its metric; an arrow leads from a donor to the trial that took over.

    The way of the best one's weights, through all that had them, is outlined.
    """
    goal, trials = findings.goal, {trial.ordinal: trial for trial in findings.trials}
    values, arrows = list[Chart](), list[Chart]()
    for trial in findings.trials:
        for epoch, results in sorted(trial.results.items()):
            at = number(results, goal.metric)
            finite = at if math.isfinite(at) else None
            values.append({"trial": trial.ordinal, "from": epoch - 1, "to": epoch, "at": finite})
        for epoch, donor in trial.donors.items():
            tip = trial.ordinal + (0.2 if donor > trial.ordinal else -0.2)
            arrows.append({"taker": trial.ordinal, "donor": donor, "epoch": epoch, "tip": tip})
    best = way(trials, findings.ranked[0].ordinal) if findings.ranked else []
    outline = {"values": [{"trial": ordinal, "from": first, "to": last} for ordinal, first, last in best]}
    last, rows = max((row["to"] for row in values), default=1), max(trials, default=0)
    x = axis("from", "epoch", [0, last], tickMinStep=1, format="d", grid=False)
    y = axis("trial", "trial", [rows + 0.6, -0.6], values=sorted(trials), format="d", grid=False)
    place, turn = {"x": x, "x2": {"field": "to"}, "y": y}, {"x": {**x, "field": "epoch"}}
    colour = shades(goal.metric, goal.mode, [row["at"] for row in values if row["at"] is not None], "at")
    arrow = {**turn, "y": {**y, "field": "donor"}, "y2": {"field": "taker"}}
    head = {
        **turn,
        "y": {**y, "field": "tip"},
        "shape": when("datum.taker > datum.donor", "triangle-down", "triangle-up"),
    }
    return chart(
        34 * len(trials) + 20,
        {"values": values},
        mark("rule", place, outline, strokeWidth=13, color=INK),
        mark("rule", {**place, **TRIAL, "color": colour}, strokeWidth=8),
        mark("rule", arrow, {"values": arrows}, color=INK, strokeWidth=1.3),
        mark("point", head, {"values": arrows}, filled=True, color=INK, size=60, opacity=1),
    )


def way(trials: dict[int, Trial], ordinal: int) -> list[tuple[int, int, int]]:
    """Where the weights of a trial have been: (trial, from epoch, to epoch), the latest first."""
    found, last = list[tuple[int, int, int]](), max(trials[ordinal].results, default=0)
    while last:
        taken = max((epoch for epoch in trials[ordinal].donors if epoch < last), default=0)
        found.append((ordinal, taken, last))
        last, ordinal = taken, trials[ordinal].donors.get(taken, ordinal)
    return found

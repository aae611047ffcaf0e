"""What the figures of a search share: Vega-Lite charts in which a trial has one colour, one mark and one text.

One specification is drawn twice by Vega: in the page by its JavaScript, and as a PNG file for MLflow.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from tuning.report.findings import Findings
from tuning.report.scales import fence
from tuning.run.results import Trial

Chart = dict[str, Any]
"""A Vega-Lite specification, or a part of one, as JSON."""

GREY, INK, BLUE = "#8a8f98", "#1c1f23", "#0b6bcb"
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_SHAPES = {"finished": "circle", "failed": "cross", "not ended": "triangle-right"}
_TEXT = {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 12}
_CONFIG: Chart = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif",
    "view": {"stroke": None},
    "mark": {"invalid": "show"},
    "scale": {"invalid": {"color": {"value": GREY}}},
    "axis": {**_TEXT, "gridColor": "#e6e8eb", "domainColor": GREY, "tickColor": GREY, "titlePadding": 8},
    "axisXQuantitative": {"tickCount": {"signal": "ceil(width / 90)"}},
    "legend": {**_TEXT, "orient": "top", "columns": 2, "layout": {"top": {"anchor": "start", "direction": "vertical"}}}
    | {"gradientLength": 220, "gradientThickness": 10, "titleLimit": 320, "labelLimit": 150},
}


def chart(height: float, data: Chart, *layers: Chart, **more: Any) -> Chart:
    """A chart as wide as its place, its plot ``height`` pixels high, the lowest layer first.

    ``data`` is that of layers that have none of their own; :func:`trials_of` is joined to its rows by ``trial``.
    """
    trials = {"data": {"name": "trials"}, "key": "trial", "fields": ["label", "score", "ended", "rank"]}
    size = {"width": "container", "height": height, "autosize": {"type": "fit-x", "contains": "padding"}}
    made = {**size, "data": data, "transform": [{"lookup": "trial", "from": trials}], "layer": layers, **more}
    return {"$schema": _SCHEMA, "config": _CONFIG, "params": [{"name": "pointed", "value": None}], **made}


def trials_of(findings: Findings) -> list[Chart]:
    """What every figure knows of the trials: text, value by which they are coloured, how they ended, rank."""
    ranks = {trial.ordinal: rank for rank, trial in enumerate(findings.ranked, 1)}
    rows = []
    for trial in findings.trials:
        score = findings.value(trial) if trial.ordinal in ranks else None
        row = {"trial": trial.ordinal, "label": f"trial {trial.ordinal}", "score": score, "ended": ended(trial)}
        rows.append({**row, "rank": ranks.get(trial.ordinal)})
    return rows


def png(figure: Chart, trials: Sequence[Chart], width: int = 900) -> bytes:
    """The chart as a picture, ``width`` points wide; see :func:`trials_of`.

    Layers that are only there to be pointed at are left out: nobody sees them, and drawing them takes most of the time.
    """
    import vl_convert

    seen = [layer for layer in figure["layer"] if layer["mark"].get("strokeOpacity") != 0]
    look = {"width": width, "background": "white", "padding": 12, "datasets": {"trials": trials}}
    drawn = {**figure, **look, "layer": seen}
    return vl_convert.vegalite_to_png(drawn, scale=1.5)


def table(columns: str, rows: Iterable[Sequence[float]]) -> Chart:
    """Rows of finite numbers as data, short: of a long search there are many."""
    lines = (",".join(f"{value:.7g}" for value in row) for row in rows)
    parse = dict.fromkeys(columns.split(","), "number")
    return {"values": "\n".join([columns, *lines]), "format": {"type": "csv", "parse": parse}}


def mark(kind: str, encoding: Chart, data: Chart | None = None, transform: Sequence[Chart] = (), **look: Any) -> Chart:
    """A layer of marks; ``look`` has their properties."""
    layer = {"mark": {"type": kind, **look}, "encoding": encoding, "transform": transform}
    return {**layer, "data": data} if data else layer


def axis(field: str, title: str | list[str], domain: Sequence[float], **look: Any) -> Chart:
    """A position by a number, on an axis from end to end of ``domain``."""
    scale = {"domain": domain, "nice": False, "zero": False}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": look}


def when(test: str, value: Any, otherwise: Any) -> Chart:
    """A property that depends on a test."""
    return {"condition": {"test": test, "value": value}, "value": otherwise}


TRIAL: Chart = {
    "opacity": when("pointed === null || datum.trial === pointed", 1, 0.1),
    "description": {"field": "label", "type": "nominal"},
}
"""Encodings of a mark that belongs to a trial: it fades while another is pointed at, and has a text."""


def lines(encoding: Chart) -> list[Chart]:
    """A line a trial, and a wide one over it that is not seen but easier to point at."""
    seen = {**encoding, **TRIAL, "detail": {"field": "trial"}}
    wide = {name: value for name, value in seen.items() if name not in ("color", "opacity")}
    thick = {"strokeWidth": when("datum.rank === 1", 2.8, 1.3)}
    hidden: Chart = {"aria": False, "color": "white", "strokeWidth": 9, "strokeOpacity": 0}
    return [mark("line", {**seen, **thick}, clip=True), mark("line", wide, clip=True, **hidden)]


def ended(trial: Trial) -> str:
    """How a trial ended."""
    words = {"RUNNING": "not ended", "FAILED": "failed"}
    return words.get(trial.status, f"stopped by {trial.stopped_by}" if trial.stopped_by else "finished")


def shapes(trials: Iterable[Trial]) -> Chart:
    """The encoding of marks by how their trials ended; those that were stopped are squares."""
    found = sorted({ended(trial) for trial in trials})
    scale = {"domain": found, "range": [_SHAPES.get(words, "square") for words in found]}
    legend = {"symbolFillColor": INK, "symbolStrokeColor": INK}
    return {"field": "ended", "type": "nominal", "title": None, "scale": scale, "legend": legend}


def shades(metric: str, mode: str, values: Iterable[float], field: str = "score") -> Chart:
    """The encoding of a colour by a value: the better the darker, and grey where there is none."""
    known = [value for value in values if math.isfinite(value)]
    low, high = fence(known, mode)
    ends = margin(low, high) if low == high else [low, high]
    beyond, at = ("≤ ", ends[0]) if min(known, default=low) < low else ("≥ ", ends[1])
    marked = f"datum.value === {at!r}" if min(known, default=low) < low or max(known, default=high) > high else "false"
    label = f"({marked} ? '{beyond}' : '') + format(datum.value, '.4~r')"
    marks = [ends[0], (ends[0] + ends[1]) / 2, ends[1]]
    legend = {"type": "gradient", "direction": "horizontal", "values": marks, "labelExpr": label}
    scheme = {"name": "viridis", "extent": [0.92, 0] if mode == "max" else [0, 0.92]}
    scale = {"scheme": scheme, "domain": ends, "clamp": True}
    return {"field": field, "type": "quantitative", "title": metric, "scale": scale, "legend": legend}


def margin(low: float, high: float) -> list[float]:
    """The ends of an axis around these values."""
    more = 0.04 * (high - low) or 0.05 * abs(high) or 0.05
    return [low - more, high + more]


def folded(name: str, longest: int = 16) -> str:
    """The name on several lines, broken at its dots, slashes and underscores."""
    lines = textwrap.wrap(re.sub(r"(?<=[._/])", " ", name), longest)
    return "\n".join(line.replace(" ", "") for line in lines)

"""The report of a search: one HTML file that needs nothing else, and the same figures and leaderboard for MLflow."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import specfile
from tuning.report import arms, figures, landscape
from tuning.report.board import short, summary, text
from tuning.report.findings import ENOUGH, Findings
from tuning.report.importance import importance
from tuning.report.lineage import lineage
from tuning.report.page import page, svg, table
from tuning.report.scales import scale_of
from tuning.run.history import Trial
from tuning.studies.verdict import judge

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT, LEADERBOARD, FIGURES = "report.html", "leaderboard.json", "figures"
VERDICT = "verdict.json", "verdict.md"
"""Names of the files and of the folder of PNG files, in the folder of the search and among its artifacts."""

_METRICS = ("val/top1", "val/loss", "test/top1")


@dataclass(frozen=True)
class Panel:
    """A part of the report.

    Attributes:
        name: of its file.
        heading: above it.
        figure: or why there is none.
        caption: what to know when looking at it.
    """

    name: str
    heading: str
    figure: Figure | str
    caption: str


def write(folder: Path) -> list[tuple[Path, str]]:
    """Write report, leaderboard and figures into the folder of a search.

    Returns:
        what belongs among the artifacts of its run, and the folder there.
    """
    findings = Findings.of(folder)
    shown = panels(findings)
    target = folder / FIGURES
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for panel in shown:
        if not isinstance(panel.figure, str):
            panel.figure.savefig(target / f"{panel.name}.png", dpi=130)
    (folder / LEADERBOARD).write_text(json.dumps(leaderboard(findings)), encoding="utf-8")
    (folder / REPORT).write_text(render(findings, shown), encoding="utf-8")
    if findings.spec.arms:
        verdict = judge(findings.spec.arms, findings.trials)
        for name, content in zip(VERDICT, (json.dumps(verdict.table), verdict.markdown), strict=True):
            (folder / name).write_text(content, encoding="utf-8")
    told = [(folder / name, "") for name in VERDICT if findings.spec.arms]
    return [*told, (folder / LEADERBOARD, ""), (folder / REPORT, ""), (target, FIGURES)]


def leaderboard(findings: Findings) -> dict[str, list[Any]]:
    """The trials, the best first, as MLflow writes a table: names of the columns, and the rows.

    Names have slashes for dots: MLflow's UI takes a dot for a way into the value, and shows nothing. Numbers have six
    digits; all digits are in the runs.
    """
    names, metrics = findings.names, _metrics(findings)
    shown = [name.replace(".", "/") for name in names]
    columns = ["rank", "trial", "run", *metrics, *shown, "epochs", "seconds", "state", "cause"]
    rows = []
    for rank, trial in _in_order(findings):
        params = [_plain(findings.told(trial).get(name)) for name in names]
        values = [findings.value(trial, metric) for metric in metrics]
        *scores, seconds = (_plain(value) for value in (*values, findings.seconds_of(trial)))
        epochs, state = max(trial.results, default=0), _state(findings, trial)
        rows.append([rank, trial.ordinal, trial.run, *scores, *params, epochs, seconds, state, trial.cause or ""])
    return {"columns": columns, "data": rows}


def panels(findings: Findings) -> list[Panel]:
    """The figures of a search, or why they are missing."""
    curves = Panel(
        "learning_curves",
        "Learning curves",
        figures.learning_curves(findings),
        "A line is a trial, the thick one the best. Point at one to see it in every figure; click to keep it.",
    )
    if findings.spec.arms:
        verdict = judge(findings.spec.arms, findings.trials)
        caption = "Mean difference on the test split, and its interval; the dots are the seeds."
        return [Panel("differences", "Differences", figures.differences(verdict), caption), curves]
    scales = {
        name: scale_of(axis, [trial.params[name] for trial in findings.trials if name in trial.params])
        for name, axis in findings.axes.items()
    }
    found = importance(findings, scales)
    metric = findings.goal.metric
    shown = [
        curves,
        Panel(
            "best_so_far",
            f"Best {metric} so far",
            figures.best_so_far(findings),
            "The line is the best of the trials that had ended; points are trials at their end.",
        ),
        Panel(
            "parallel_coordinates",
            "Parameters side by side",
            landscape.parallel(findings, scales),
            f"A line is a trial, from its parameters to its {metric}; the darker the better.",
        ),
    ]
    if any(trial.donors for trial in findings.trials):
        caption = (
            "An arrow: a trial went on from another's weights. Outlined: the way of the weights that are the best."
        )
        shown.insert(1, Panel("lineage", "Who went on from whom", lineage(findings), caption))
    if len(findings.spec.goals) > 1:
        caption = "Blue: the front, with the numbers of the trials. A point off the line is beaten by one on it."
        shown.insert(0, Panel("front", "The front between the objectives", figures.front(findings), caption))
    if isinstance(found, str):
        shown.append(Panel("importance", "What matters", found, ""))
        pair = list(scales)[:2]
    else:
        left_out = ", ".join(found.left_out)
        told = f"fANOVA over {found.of}. {found.trust}" + (
            f" Left out, since not all of these trials drew them: {left_out}." if left_out else ""
        )
        shown.append(Panel("importance", "What matters", figures.importances(found), told))
        pair = list(found.shares)[:2]
    if len(pair) == 2:
        values, of = findings.comparable()
        caption = f"Points: {of}; the star is the best. "
        enough = len(values) >= ENOUGH
        caption += (
            "The surface is a smooth fit through them, all other parameters left aside."
            if enough and all(scales[name].ordered for name in pair)
            else f"A surface through them is drawn from {ENOUGH} trials on, over two parameters that are numbers."
        )
        figure = landscape.contour(findings, scales, pair)
        shown.append(Panel("contour", f"{pair[0]} and {pair[1]}", figure, caption))
    return shown


def render(findings: Findings, shown: Sequence[Panel]) -> str:
    """The report as HTML."""
    parts = [f"<h1>Search {escape(findings.name)}</h1>", f'<p class="quiet">{escape(_standing(findings))}</p>']
    parts.append(arms.verdict(findings) if findings.spec.arms else _best(findings))
    parts += ["<h2>Leaderboard</h2>", _leaderboard(findings)]
    told = {trial.ordinal: _told(findings, trial) for trial in findings.trials}
    for panel in shown:
        parts.append(f"<h2>{escape(panel.heading)}</h2>")
        if isinstance(panel.figure, str):
            parts.append(f'<p class="quiet">Not shown: {escape(panel.figure)}.</p>')
        else:
            drawn = svg(panel.figure, panel.name, told)
            parts.append(f'<figure id="{panel.name}">{drawn}<figcaption><p class="quiet">{escape(panel.caption)}</p>')
            parts.append("</figcaption></figure>")
    parts += ["<h2>Failures</h2>", _failures(findings), "<h2>What was searched</h2>"]
    parts.append(arms.jobs(findings.spec.arms) if findings.spec.arms else _space(findings))
    parts.append(f"<pre>{escape(specfile.dump(findings.spec))}</pre>")
    return page(f"Search {findings.name}", "\n".join(parts))


def _standing(findings: Findings) -> str:
    goals = " and ".join(f"{goal.metric} ({goal.mode})" for goal in findings.spec.goals)
    told = f"{summary(findings.trials, findings.state == 'running')}; {_duration(findings.seconds)} of work"
    goal = "Judged on the test split" if findings.spec.arms else f"Goal: {goals}"
    return f"{findings.state[0].upper()}{findings.state[1:]}. {told}. {goal}."


def _best(findings: Findings) -> str:
    if not findings.ranked:
        return "<p>No trial has come to a result.</p>"
    best = findings.ranked[0]
    params = ", ".join(f"{name} {text(value)}" for name, value in best.params.items())
    value = f"{findings.goal.metric} {findings.value(best):.4f}"
    return f"<p><b>Best: {escape(value)}</b>, trial {best.ordinal} (run {escape(best.run)}): {escape(params)}</p>"


def _leaderboard(findings: Findings) -> str:
    names, metrics = findings.names, _metrics(findings)
    columns = [(heading, "number") for heading in ("rank", "trial")]
    columns += [(short(name, names), "" if name == "arm" else "number") for name in names]
    columns += [(heading, "number") for heading in ("epochs", *metrics, "seconds")] + [("state", "")]
    rows = []
    for rank, trial in _in_order(findings):
        values = [findings.value(trial, metric) for metric in metrics]
        cells = [str(rank or ""), str(trial.ordinal)]
        told = findings.told(trial)
        cells += [text(told[name]) if name in told else "" for name in names]
        cells += [str(max(trial.results, default=0)), *(_number(value) for value in values)]
        cells += [_number(findings.seconds_of(trial), 1), _state(findings, trial)]
        rows.append((trial.ordinal, cells))
    return table(columns, rows)


def _failures(findings: Findings) -> str:
    if not findings.failed:
        return "<p>No trial failed.</p>"
    columns = [("kind", ""), ("trials", "number"), ("which", "long"), ("cause", "long")]
    rows = []
    for kind, trials in findings.failed.items():
        causes: dict[str, list[str]] = {}
        for trial in trials:
            causes.setdefault(trial.cause or "", []).append(str(trial.ordinal))
        rows += [(None, [kind, str(len(which)), ", ".join(which), cause]) for cause, which in causes.items()]
    return table(columns, rows)


def _space(findings: Findings) -> str:
    columns = [("name", ""), ("distribution", ""), ("values", "long"), ("only where", "long")]
    rows = []
    for name, axis in findings.spec.axes().items():
        ends = [f"[{text(end)}]" if isinstance(end, list) else text(end) for end in axis.ends()]
        among = ", ".join(ends) if axis.kind in ("choice", "fixed") else " to ".join(ends)
        when = ", ".join(f"{condition} is {text(wanted)}" for condition, wanted in axis.when.items())
        rows.append((None, [name, axis.kind, among, when]))
    return table(columns, rows)


def _in_order(findings: Findings) -> list[tuple[int | None, Trial]]:
    """Rank and trial; those without a rank come last."""
    ranked = findings.ranked
    placed = {trial.ordinal for trial in ranked}
    rest = [(None, trial) for trial in findings.trials if trial.ordinal not in placed]
    return [*((rank, trial) for rank, trial in enumerate(ranked, 1)), *rest]


def _metrics(findings: Findings) -> list[str]:
    wanted = dict.fromkeys((*(goal.metric for goal in findings.spec.goals), *_METRICS))
    return [
        metric
        for metric in wanted
        if metric != "seconds" and any(math.isfinite(findings.value(trial, metric)) for trial in findings.trials)
    ]


def _told(findings: Findings, trial: Trial) -> str:
    """What is said of a trial that is pointed at."""
    lines = [f"trial {trial.ordinal}: {_state(findings, trial)} after {max(trial.results, default=0)} epochs"]
    lines += [f"{metric} {_number(findings.value(trial, metric))}" for metric in _metrics(findings)]
    return "\n".join([*lines, *(f"{name} {text(value)}" for name, value in findings.told(trial).items())])


def _state(findings: Findings, trial: Trial) -> str:
    if trial.status == "RUNNING":
        return "running" if findings.state == "running" else "unfinished"
    if trial.status == "FAILED":
        return f"failed ({trial.kind})"
    return f"stopped by {trial.stopped_by}" if trial.stopped_by else "finished"


def _plain(value: Any) -> Any:
    """A value as it stands in the leaderboard."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else text(value)


def _number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} seconds"

"""The report as one HTML file: what each of its tables and lines says."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import specfile
from jobs.words import duration
from tuning.report.board import listed, short, summary, text
from tuning.report.chart import Chart, ended, trials_of
from tuning.report.findings import Findings
from tuning.run.results import Trial
from tuning.studies.verdict import JUDGED, judged

_METRICS = ("val/top1", "val/loss", "test/top1")


@dataclass(frozen=True)
class Panel:
    """A figure of the report.

    Attributes:
        name: of its file.
        heading: above it.
        figure: or why there is none.
        note: what this search adds to the figure's caption.
        least: width in pixels below which the figure scrolls in its box.
    """

    name: str
    heading: str
    figure: Chart | str
    note: str = ""
    least: int = 0


def render(findings: Findings, panels: Sequence[Panel]) -> str:
    """The report as HTML that needs nothing else."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    figures = {panel.name: panel.figure for panel in panels if not isinstance(panel.figure, str)}
    texts = {trial.ordinal: _hover(findings, trial) for trial in findings.trials}
    arms, best = findings.spec.arms, next(iter(findings.ranked), None)
    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return pages.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8")).render(
        findings=findings,
        standing=_standing(findings),
        verdict=findings.verdict,
        judged=JUDGED[judged(findings.spec)],
        best=best,
        value=_number(findings.value(best), 4) if best else "",
        params=listed(best.params) if best else "",
        headings=["rank", "trial", *_metrics(findings), *(short(name, findings.names) for name in findings.names)],
        rows=_cells(findings),
        panels=panels,
        failures=_failures(findings),
        arms=[[arm, listed(changes) or "the job as it is"] for arm, changes in arms.jobs.items()] if arms else [],
        space=_space(findings),
        spec=specfile.dump(findings.spec),
        data={"figures": figures, "trials": trials_of(findings), "texts": texts},
        library=Markup(_library()),
    )


@functools.cache
def _library() -> str:
    """Vega and what draws with it, as one script; putting it together takes a second."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def leaderboard(findings: Findings) -> dict[str, list[Any]]:
    """The trials, the best first, as MLflow writes a table: names of the columns, and the rows.

    Names have slashes for dots: MLflow's UI reads a dot as a way into the value, and shows nothing. Numbers have six
    digits; all digits are in the runs.
    """
    params = [name.replace(".", "/") for name in findings.names]
    columns = ["rank", "trial", "run", *_metrics(findings), *params, "epochs", "seconds", "state", "cause"]
    return {"columns": columns, "data": [[_plain(value) for value in row] for row in _rows(findings)]}


def _rows(findings: Findings) -> list[list[Any]]:
    """The values of the leaderboard; NaN where there is none."""
    ranked, rows = {trial.ordinal: rank for rank, trial in enumerate(findings.ranked, 1)}, []
    for trial in sorted(findings.trials, key=lambda trial: ranked.get(trial.ordinal, math.inf)):
        row = [ranked.get(trial.ordinal, math.nan), trial.ordinal, trial.run]
        row += [findings.value(trial, metric) for metric in _metrics(findings)]
        row += [findings.identity(trial).get(name, math.nan) for name in findings.names]
        row += [max(trial.results, default=0), findings.seconds_of(trial), _state(findings, trial), trial.cause or ""]
        rows.append(row)
    return rows


def _cells(findings: Findings) -> list[list[str]]:
    """The rows of the leaderboard as the page has them, without run and cause."""
    last = 3 + len(_metrics(findings))
    rows = []
    for row in _rows(findings):
        scores, (*rest, seconds, state, _) = row[3:last], row[last:]
        numbers = [*(_number(score, 4) for score in scores), *map(text, rest), _number(seconds, 1), state]
        rows.append([*map(text, row[:2]), *numbers])
    return rows


def _failures(findings: Findings) -> list[list[str]]:
    """Kind, number of trials, which ones, and the cause that they share."""
    rows = []
    for kind, trials in findings.failed.items():
        causes: dict[str, list[str]] = {}
        for trial in trials:
            causes.setdefault(trial.cause or "", []).append(str(trial.ordinal))
        rows += [[kind, str(len(which)), ", ".join(which), cause] for cause, which in causes.items()]
    return rows


def _space(findings: Findings) -> list[list[str]]:
    """Name, distribution, values and condition."""
    rows = []
    for name, axis in findings.spec.axes().items():
        ends = [f"[{text(end)}]" if isinstance(end, list) else text(end) for end in axis.ends()]
        among = ", ".join(ends) if axis.kind in ("choice", "fixed") else " to ".join(ends)
        when = ", ".join(f"{condition} is {text(wanted)}" for condition, wanted in axis.when.items())
        rows.append([name, axis.kind, among, when])
    return rows


def _standing(findings: Findings) -> str:
    goals = " and ".join(f"{goal.metric} ({goal.mode})" for goal in findings.spec.goals)
    ends = f"{summary(findings.trials, findings.state == 'running')}; {duration(findings.seconds)} of work"
    goal = "Judged on the test split" if findings.spec.arms else f"Goal: {goals}"
    return f"{findings.state[0].upper()}{findings.state[1:]}. {ends}. {goal}."


def _metrics(findings: Findings) -> list[str]:
    wanted = dict.fromkeys((*(goal.metric for goal in findings.spec.goals), *_METRICS, judged(findings.spec)))
    return [
        metric
        for metric in wanted
        if metric != "seconds" and any(math.isfinite(findings.value(trial, metric)) for trial in findings.trials)
    ]


def _hover(findings: Findings, trial: Trial) -> str:
    """The text of a trial that is pointed at."""
    lines = [f"trial {trial.ordinal}: {_state(findings, trial)} after {max(trial.results, default=0)} epochs"]
    lines += [f"{metric} {_number(findings.value(trial, metric), 4)}" for metric in _metrics(findings)]
    return "\n".join([*lines, *(f"{name} {text(value)}" for name, value in findings.identity(trial).items())])


def _state(findings: Findings, trial: Trial) -> str:
    if trial.status == "RUNNING":
        return "running" if findings.state == "running" else "unfinished"
    return f"failed ({trial.kind})" if trial.status == "FAILED" else ended(trial)


def _plain(value: Any) -> Any:
    """A value as the leaderboard of MLflow has it."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else text(value)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""

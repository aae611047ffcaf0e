"""The report of a search: one HTML file that needs nothing else, and the same figures and leaderboard for MLflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tuning.report import figures, landscape
from tuning.report.chart import png, trials_of
from tuning.report.findings import ENOUGH, Findings
from tuning.report.importance import importance
from tuning.report.page import Panel, leaderboard, render
from tuning.report.scales import scale_of

REPORT, LEADERBOARD, FIGURES = "report.html", "leaderboard.json", "figures"
VERDICT = "verdict.json", "verdict.md"
"""Names of the files and of the folder of PNG files, in the folder of the search and among its artifacts."""


def write(folder: Path) -> list[tuple[Path, str]]:
    """Write report, verdict, leaderboard and figures into the folder of a search.

    Returns:
        what belongs among the artifacts of its run, and the folder there.
    """
    findings = Findings.of(folder)
    shown, trials, target = panels(findings), trials_of(findings), folder / FIGURES
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for panel in shown:
        if not isinstance(panel.figure, str):
            (target / f"{panel.name}.png").write_bytes(png(panel.figure, trials, max(900, panel.least)))
    (folder / LEADERBOARD).write_text(json.dumps(leaderboard(findings)), encoding="utf-8")
    (folder / REPORT).write_text(render(findings, shown), encoding="utf-8")
    verdicts = [(path, "") for path in write_verdict(findings, folder)]
    return [*verdicts, (folder / LEADERBOARD, ""), (folder / REPORT, ""), (target, FIGURES)]


def write_verdict(findings: Findings, folder: Path) -> list[Path]:
    """Write the verdict on the arms of a search as it is now; without arms there is none to write."""
    if (verdict := findings.verdict) is None:
        return []
    paths = [folder / name for name in VERDICT]
    for path, content in zip(paths, (json.dumps(verdict.table), verdict.markdown), strict=True):
        path.write_text(content, encoding="utf-8")
    return paths


def panels(findings: Findings) -> list[Panel]:
    """The figures of a search, or why they are missing."""
    goal, shown = findings.goal, list[Panel]()
    curves = Panel("learning_curves", "Learning curves", figures.learning_curves(findings))
    if verdict := findings.verdict:
        return [Panel("differences", "Differences", figures.differences(verdict)), curves]
    for place, other in enumerate(findings.spec.goals[1:]):
        name, heading = f"front_{place + 1}" if place else "front", f"The front: {goal.metric} and {other.metric}"
        on = f"There are {len(findings.front())}."
        shown.append(Panel(name, heading, figures.front(findings, other), on))
    shown.append(curves)
    if any(trial.donors for trial in findings.trials):
        shown.append(Panel("lineage", "Whose weights each trial continued from", landscape.lineage(findings)))
    best = "".join(f"It is {value:.4f}, by trial {trial.ordinal}." for _, value, trial in findings.best_so_far()[-1:])
    shown.append(Panel("best_so_far", f"Best {goal.metric} so far", figures.best_so_far(findings), best))
    drawn = {name: [trial.params[name] for trial in findings.trials if name in trial.params] for name in findings.axes}
    scales = {name: scale_of(axis, drawn[name]) for name, axis in findings.axes.items()}
    parallel, least = landscape.parallel(findings, scales), landscape.COLUMN * (len(scales) + 1)
    shown.append(Panel("parallel_coordinates", "Parameters side by side", parallel, least=least))
    found = importance(findings, scales)
    if isinstance(found, str):
        shown.append(Panel("importance", "What matters", found))
    else:
        left_out = ", ".join(found.left_out)
        said = f"fANOVA over {found.of}. {found.trust}"
        said += f" Left out, since not all of these trials drew them: {left_out}." if left_out else ""
        shown.append(Panel("importance", "What matters", figures.importances(found), said))
    pair = list(scales if isinstance(found, str) else found.shares)[:2]
    if len(pair) == 2:
        values, of = findings.comparable()
        surface = "The surface is a smooth fit through them, all other parameters left aside."
        if len(values) < ENOUGH or not all(scales[name].ordered for name in pair):
            surface = f"A surface through them is drawn from {ENOUGH} trials on, over two parameters that are numbers."
        figure = landscape.contour(findings, scales, pair)
        shown.append(Panel("contour", " and ".join(pair), figure, f"Points: {of}; the star is the best. {surface}"))
    return shown

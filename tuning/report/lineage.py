"""Figure of a population: who went on from whose weights, and the way of those that ended best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from orchestrator.runs.figures import blank
from tuning.report.findings import Findings
from tuning.report.ink import GREY, INK, Ids, Ink, limits, title
from tuning.run.history import Trial, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lineage(findings: Findings) -> Figure:
    """A row a trial, coloured epoch by epoch by its metric; an arrow leads from a donor to the trial that took over.

    The way of the best one's weights, through all that had them, is outlined.
    """
    from matplotlib.ticker import MaxNLocator

    goal, trials = findings.goal, {trial.ordinal: trial for trial in findings.trials}
    values = {
        (trial.ordinal, epoch): number(at, goal.metric)
        for trial in findings.trials
        for epoch, at in sorted(trial.results.items())
    }
    known = {at: value for at, value in values.items() if math.isfinite(value)}
    ink, ids = Ink(findings, dict(enumerate(known.values()))), Ids()
    figure = blank(10, 1.6 + 0.34 * len(trials))
    axes = figure.add_subplot()
    if findings.ranked:
        for ordinal, first, last in way(trials, findings.ranked[0].ordinal):
            axes.plot([first, last], [ordinal, ordinal], color=INK, linewidth=11, solid_capstyle="butt")
    for (ordinal, epoch), value in values.items():
        colour = ink.cmap(ink.norm(value)) if (ordinal, epoch) in known else GREY
        (line,) = axes.plot([epoch - 1, epoch], [ordinal, ordinal], color=colour, linewidth=6, gid=ids(trials[ordinal]))
        line.set_solid_capstyle("butt")
    for trial in findings.trials:
        for epoch, donor in trial.donors.items():
            style = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.0, "shrinkA": 3, "shrinkB": 3}
            axes.annotate("", (epoch, trial.ordinal), (epoch, donor), arrowprops=style)
    title(axes, f"{goal.metric} by epoch, and who went on from whom")
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("epoch")
    axes.set_ylabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_yticks(sorted(trials))
    limits(axes.set_ylim, len(trials) - 0.5, -0.5)  # the first trial on top
    ink.bar(figure, axes)
    return figure


def way(trials: dict[int, Trial], ordinal: int) -> list[tuple[int, int, int]]:
    """Where the weights of a trial have been: (trial, from epoch, to epoch), the latest first."""
    found, last = list[tuple[int, int, int]](), max(trials[ordinal].results, default=0)
    while last:
        taken = max((epoch for epoch in trials[ordinal].donors if epoch < last), default=0)
        found.append((ordinal, taken, last))
        last, ordinal = taken, trials[ordinal].donors.get(taken, ordinal)
    return found

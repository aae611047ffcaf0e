"""Figures of what a search searched: its parameters side by side, and its metric over two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.runs.figures import blank
from tuning.report.board import short
from tuning.report.findings import ENOUGH, Findings
from tuning.report.ink import INK, Ids, Ink, title
from tuning.report.scales import Scale, fence, line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NONE = -0.1
"""Where an axis of parallel coordinates has what was not drawn."""


def parallel(findings: Findings, scales: Mapping[str, Scale]) -> Figure | str:
    """One line a trial through its parameters to what it reached; or why there is none."""
    trials = findings.ranked[::-1]
    if not trials or not scales:
        return "no trial has a value yet" if scales else "nothing was varied"
    low, high = fence([findings.value(trial) for trial in trials], findings.goal.mode)
    end = line(low, high)
    columns = [*scales.values(), end]
    names = [*scales, findings.goal.metric]
    figure, ink, ids = blank(min(18.0, max(8.0, 1.9 * len(columns))), 5), Ink(findings), Ids()
    axes = figure.add_subplot()
    for trial in trials:
        at = [scale.place(trial.params[name]) if name in trial.params else _NONE for name, scale in scales.items()]
        at.append(end.place(findings.value(trial)))
        best = trial is trials[-1]
        axes.plot(range(len(at)), at, color=ink.of(trial), linewidth=2.6 if best else 1.3, gid=ids(trial))
    missing = {name for name in scales if any(name not in trial.params for trial in trials)}
    for column, (name, scale) in enumerate(zip(names, columns, strict=True)):
        axes.plot([column, column], [0, 1], color=INK, linewidth=1, zorder=3)
        ticks = [*scale.ticks, *([(_NONE, "not drawn")] if name in missing else [])]
        for height, label in ticks:
            axes.annotate(
                label,
                (column, height),
                (-5, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=8,
                color=INK,
                zorder=4,
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            )
    axes.set_xlim(-0.45, len(columns) - 0.9)
    axes.set_ylim(_NONE - 0.06 if missing else -0.04, 1.04)
    axes.set_yticks([])
    axes.set_xticks(range(len(columns)), [_folded(short(name, names)) for name in names], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    ink.bar(figure, axes)
    return figure


def contour(findings: Findings, scales: Mapping[str, Scale], names: Sequence[str]) -> Figure | str:
    """The metric over two parameters: the trials, and where there are enough a surface through them; or why none."""
    values, of = findings.comparable()
    first, second = (scales[name] for name in names)
    trials = [trial for trial in findings.ranked[::-1] if trial.ordinal in values and set(names) <= trial.params.keys()]
    x, y = (np.array([scales[name].place(trial.params[name]) for trial in trials]) for name in names)
    z = np.array([values[trial.ordinal] for trial in trials])
    if not len(z):
        return "no trial can be compared yet"
    figure, ids = blank(8.4, 6), Ids()
    axes = figure.add_subplot()
    ink = Ink(findings, {trial.ordinal: values[trial.ordinal] for trial in trials})
    if len(z) >= ENOUGH and first.ordered and second.ordered and ink.high > ink.low:
        grid = np.linspace(0, 1, 60)
        surface = _surface(x, y, np.clip(z, ink.low, ink.high), grid)
        axes.contourf(grid, grid, surface, levels=12, cmap=ink.cmap, norm=ink.norm, alpha=0.55, zorder=1)
    best = max(range(len(z)), key=lambda at: z[at] * (1 if findings.goal.mode == "max" else -1))
    for at, trial in enumerate(trials):
        symbol, size = ("*", 16) if at == best else ("o", 8)
        axes.plot(
            x[at],
            y[at],
            symbol,
            color=ink.of(trial),
            markersize=size,
            markeredgecolor="white",
            markeredgewidth=1,
            gid=ids(trial),
            clip_on=False,
            zorder=4 if at == best else 3,
        )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks(*zip(*first.ticks, strict=True), rotation=0 if sum(len(t) for _, t in first.ticks) < 60 else 30)
    axes.set_yticks(*zip(*second.ticks, strict=True))
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    title(axes, of.split(",")[0] if len(of) < 80 else findings.goal.metric)
    axes.spines[["top", "right"]].set_visible(False)
    ink.bar(figure, axes)
    return figure


def _surface(x: np.ndarray, y: np.ndarray, z: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """A smooth surface that leaves the noise between neighbours out: a Gaussian process, its settings fitted."""
    import warnings

    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    kernel = 1.0 * RBF([0.3, 0.3], (0.1, 10.0)) + WhiteKernel(0.1, (1e-4, 10.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that end at a bound
        process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
        process.fit(np.column_stack([x, y]), z)
    across, up = np.meshgrid(grid, grid)
    return np.asarray(process.predict(np.column_stack([across.ravel(), up.ravel()]))).reshape(across.shape)


def _folded(name: str, longest: int = 14) -> str:
    """The name on several lines, broken at its dots and underscores."""
    lines = [""]
    for part in name.replace("_", "_\0").replace(".", ".\0").replace("/", "/\0").split("\0"):
        if len(lines[-1]) + len(part) > longest and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)

"""Figures of a run, as PNG files: how it learned, and which classes it confuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.report import Record
from orchestrator.runs.fonts import Lettering, lettering

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRAIN, _VAL, _LR = "#8a8f98", "#0b6bcb", "#c2571a"
_NUMBERED_CLASSES = 20
_LABELLED_CLASSES = 40
_PAIRS = 5


def learning_curves(records: Sequence[Record]) -> Figure:
    """Loss, top-1 and top-5 of training and validation by epoch, and the learning rate beneath.

    Args:
        records: a run's, with names such as ``train/loss``, ``val/top1`` and ``lr``; what is missing is left out, and
            values that are not finite leave a gap.
    """
    from matplotlib.ticker import MaxNLocator

    series: dict[str, tuple[list[int], list[float]]] = {}
    for record in sorted(records, key=lambda record: record.step):
        steps, values = series.setdefault(record.name, ([], []))
        steps.append(record.step)
        values.append(record.value if np.isfinite(record.value) else np.nan)
    figure = blank(10, 6)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 1))
    loss, top, lr = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, :])
    for split, colour in (("train", _TRAIN), ("val", _VAL)):
        _line(loss, series.get(f"{split}/loss"), colour, split)
        _line(top, series.get(f"{split}/top1"), colour, f"{split} top-1", percent=True)
        _line(top, series.get(f"{split}/top5"), colour, f"{split} top-5", percent=True, dashed=True)
    _line(lr, series.get("lr"), _LR, None)
    test = series.get("test/top1")
    if test:
        top.plot(test[0][-1], 100 * test[1][-1], "o", color="black", markersize=6, clip_on=False, zorder=4)
        top.plot([], [], "o", color="black", label=f"test top-1 {test[1][-1]:.2%}")
    last = max((record.step for record in records), default=1)
    for axes, title in ((loss, "Loss"), (top, "Accuracy, %"), (lr, "Learning rate")):
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if last > 1:
            axes.set_xlim(1, last)
        else:
            axes.set_xticks([1])
        axes.grid(color="#e6e8eb", linewidth=0.8)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
        elif not axes.lines:
            axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", color=_TRAIN)
    lr.set_ylim(bottom=0)
    lr.set_xlabel("epoch")
    return figure


def confusion_matrix(matrix: Any, classes: Sequence[str]) -> Figure:
    """The shares of each true class by predicted class, and the pairs most often confused beneath.

    Args:
        matrix: ``(K, K)`` counts, true class by predicted class (an array, a tensor or nested lists).
        classes: K names.
    """
    from matplotlib.colors import PowerNorm

    counts = np.asarray(matrix, dtype=np.int64)
    size = len(classes)
    assert counts.shape == (size, size), f"{counts.shape} counts for {size} classes"
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    letters = lettering(tuple(classes))
    names = [letters.name(name) for name in classes]
    side = min(12.0, max(5.5, 0.46 * size + 2.2))
    figure = blank(side + 0.8, side + 0.9)
    axes = figure.add_subplot()
    # Colour goes with the square root of the share: what matters here are the small ones.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, label="share of the true class")
    bar.outline.set_visible(False)
    right = np.trace(counts) / max(1, counts.sum())
    axes.set_title(f"{right:.2%} of {counts.sum():,} images right", loc="left", fontsize=11, fontweight="bold")
    axes.set_ylabel("true class")
    axes.set_xlabel("predicted class\n\n" + _most_confused(counts, letters), linespacing=1.4)
    if size <= _LABELLED_CLASSES:
        upright = max(map(len, names), default=0) * size <= 40
        turned: dict[str, Any] = {} if upright else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(size), names, **turned)
        axes.set_yticks(range(size), names)
        axes.tick_params(length=0, labelsize=9 if size <= _NUMBERED_CLASSES else 7)
    if size <= _NUMBERED_CLASSES:
        for row, column in np.ndindex(size, size):
            if counts[row, column]:
                colour = "white" if shares[row, column] > 0.3 else "#1c1f23"
                text = f"{100 * shares[row, column]:.0f}" if shares[row, column] >= 0.005 else "<1"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        bar.set_label("share of the true class (numbers: %)")
    letters.apply(figure)
    return figure


def write(folder: Path, records: Sequence[Record], confusion: Any | None, classes: Sequence[str]) -> list[Path]:
    """Save the figures of a run as PNG files in ``folder/figures``; returns their paths.

    Args:
        folder: the run's.
        records: see :func:`learning_curves`.
        confusion: see :func:`confusion_matrix`; None leaves it out.
        classes: names of the classes.
    """
    figures = {"learning_curves": learning_curves(records)}
    if confusion is not None:
        figures["confusion_matrix"] = confusion_matrix(confusion, classes)
    target = folder / "figures"
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        figure.savefig(target / f"{name}.png", dpi=130)
        paths.append(target / f"{name}.png")
    lettering(tuple(classes)).write_legend(target)
    return paths


def blank(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, which lays itself out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(width, height), layout="constrained"
    )  # no pyplot: it keeps every figure and is not thread-safe
    FigureCanvasAgg(figure)
    return figure


def _line(
    axes: Axes,
    series: tuple[list[int], list[float]] | None,
    colour: str,
    label: str | None,
    percent: bool = False,
    dashed: bool = False,
) -> None:
    if series is None:
        return
    steps, values = series[0], np.asarray(series[1]) * (100 if percent else 1)
    marker = "o" if len(steps) <= 30 else None
    axes.plot(
        steps, values, "--" if dashed else "-", color=colour, label=label, linewidth=1.8, marker=marker, markersize=3.5
    )


def _most_confused(counts: np.ndarray, letters: Lettering) -> str:
    names = [letters.name(name, 40) for name in letters.classes]
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:_PAIRS]
    pairs = [(*np.unravel_index(at, wrong.shape), int(wrong.flat[at])) for at in order if wrong.flat[at]]
    if not pairs:
        return "No class was confused with another."
    lines = [
        f"{names[row]} predicted as {names[column]}: {count} of {counts[row].sum()}" for row, column, count in pairs
    ]
    return "Most often confused\n" + "\n".join(lines)

"""Figures of an evaluation: how far the probabilities can be trusted, and images of confused classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.runs.figures import blank
from orchestrator.runs.fonts import lettering

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from jobs.scoring import Calibration

_RIGHT, _GAP, _QUIET = "#7db3e8", "#c2571a", "#8a8f98"
_WIDE, _COLUMNS = 20, 4


@dataclass(frozen=True)
class Pair:
    """A class that is predicted as another, with the images of which the model was surest.

    Attributes:
        true, predicted: names of the classes.
        count, of: number of images of the true class that were predicted as the other, and of all of them.
        images: uint8 ``(h, w, channels)``, as the model sees them.
        confidence: the probability that each was given for the predicted class.
    """

    true: str
    predicted: str
    count: int
    of: int
    images: Sequence[NDArray[np.uint8]]
    confidence: Sequence[float]


def reliability(found: Calibration) -> Figure:
    """Accuracy by confidence, with the gap that the ECE adds up, and beneath it the number of images."""
    bins = len(found.counts)
    edges = np.arange(bins + 1) / bins
    full = found.counts > 0
    accuracy, confidence = (
        100 * np.divide(values, found.counts, out=np.zeros(bins), where=full)
        for values in (found.right, found.confidences)
    )
    figure = blank(6.2, 7)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 100), (0, 100), "--", color="#1c1f23", linewidth=1.2, label="confidence = accuracy", zorder=4)
    place = {"x": 100 * edges[:-1][full], "width": 100 / bins, "align": "edge"}
    upper.bar(height=accuracy[full], color=_RIGHT, edgecolor="white", label="accuracy", zorder=2, **place)
    gap, floor = np.abs(accuracy - confidence)[full], np.minimum(accuracy, confidence)[full]
    bars = {"facecolor": "none", "edgecolor": _GAP, "hatch": "////", "linewidth": 0.9}
    upper.bar(height=gap, bottom=floor, label="gap to the mean confidence", zorder=3, **bars, **place)
    figure.suptitle(f"Expected calibration error {found.ece:.2%}", x=0.01, ha="left", fontsize=11, fontweight="bold")
    upper.set_ylabel("accuracy, %")
    upper.set_ylim(0, 100)
    upper.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, columnspacing=1.2)
    lower.bar(height=found.counts[full], color=_QUIET, edgecolor="white", **place)
    lower.set_ylabel("images")
    lower.set_xlabel(f"confidence, %: the largest probability ({bins} bins)")
    lower.set_xlim(0, 100)
    for axes in (upper, lower):
        axes.set_axisbelow(True)
        axes.grid(color="#e6e8eb", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def confused_pairs(pairs: Sequence[Pair], classes: Sequence[str]) -> Figure:
    """A row of images for each pair of the ``classes`` that is confused most often."""
    letters = lettering(tuple(classes))
    if not pairs:
        figure = blank(6, 1.2)
        figure.text(0.5, 0.5, "No class was confused with another.", ha="center", va="center", color=_QUIET)
        return figure
    columns = max(_COLUMNS, *(len(pair.images) for pair in pairs))
    figure = blank(2.2 + 1.25 * columns, 1.5 * len(pairs) + 0.4)
    grid = figure.add_gridspec(len(pairs), columns + 1, width_ratios=(1.6, *[1] * columns))
    title = "Classes most often confused, with the model's probability"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    for row, pair in enumerate(pairs):
        axes = figure.add_subplot(grid[row, 0])
        axes.axis("off")
        texts = (
            (0.72, letters.name(pair.true, _WIDE), "black", "bold"),
            (0.52, "predicted as", _QUIET, "normal"),
            (0.32, letters.name(pair.predicted, _WIDE), _GAP, "bold"),
            (0.12, f"{pair.count:,} of {pair.of:,}", _QUIET, "normal"),
        )
        for height, words, colour, weight in texts:
            axes.text(0, height, words, color=colour, fontweight=weight, fontsize=10, transform=axes.transAxes)
        for column, (image, confidence) in enumerate(zip(pair.images, pair.confidence, strict=True)):
            axes = figure.add_subplot(grid[row, column + 1])
            shown = image[..., 0] if image.shape[2] == 1 else image
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color("#c9cdd2")
            axes.set_xlabel(f"{confidence:.0%}", fontsize=9, color=_GAP, labelpad=3)
    letters.apply(figure)
    return figure

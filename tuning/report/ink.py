"""What the figures of a search share: one colour and one mark a trial, and ids by which a page finds it again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tuning.report.findings import Findings
from tuning.report.scales import fence
from tuning.run.history import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY, INK, GRID, BLUE = "#8a8f98", "#1c1f23", "#e6e8eb", "#0b6bcb"


class Ink:
    """The colour of a trial by its value: the better the darker, and grey where it has none or failed.

    Args:
        findings: of the search.
        values: ordinal -> value, where it is not the one at the end.
    """

    def __init__(self, findings: Findings, values: Mapping[int, float] | None = None) -> None:
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap, Normalize

        ranked = {trial.ordinal: findings.value(trial) for trial in findings.ranked}
        self.values = dict(ranked if values is None else values)
        self.metric, mode = findings.goal.metric, findings.goal.mode
        self.low, self.high = fence(list(self.values.values()), mode)
        colours = colormaps["viridis_r"](np.linspace(0.08, 1.0, 256))
        self.cmap = ListedColormap(colours if mode == "max" else colours[::-1])
        self.norm = Normalize(self.low, self.high if self.high > self.low else self.low + 1e-9)
        self._mappable = ScalarMappable(self.norm, self.cmap)

    def of(self, trial: Trial) -> Any:
        """The colour."""
        return self.cmap(self.norm(self.values[trial.ordinal])) if trial.ordinal in self.values else GREY

    def bar(self, figure: Figure, axes: Axes) -> None:
        """Tell beside ``axes`` what the colours mean."""
        values = list(self.values.values())
        extend = "min" if min(values) < self.low else "max" if max(values) > self.high else "neither"
        bar = figure.colorbar(self._mappable, ax=axes, fraction=0.04, pad=0.02, extend=extend)
        bar.outline.set_visible(False)
        bar.set_label(self.metric)


class Ids:
    """Ids for what belongs to a trial, ``t<ordinal>-<number>``, each used once."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def __call__(self, trial: Trial) -> str:
        """The next one."""
        return f"t{trial.ordinal}-{next(self._numbers)}"


def mark(trial: Trial) -> str:
    """The marker of a trial, by how it ended."""
    return {"RUNNING": ">", "FAILED": "X"}.get(trial.status, "s" if trial.stopped_by else "o")


def limits(set_limits: Callable[[float, float], Any], low: float, high: float) -> None:
    """Set the limits of an axis, with a margin."""
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 0.05
    set_limits(low - margin, high + margin)


def title(axes: Axes, text: str) -> None:
    """A title and a grid, as in the figures of runs."""
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)

"""The place of a value on the axis of a figure: 0 at one end of what was searched, 1 at the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuning.report.board import text
from tuning.spec.distributions import Choice, Distribution, Integers, LogUniform, same

_LONGEST = 16
_TICKS = 5


@dataclass(frozen=True)
class Scale:
    """An axis from 0 to 1.

    Attributes:
        place: a value -> its place; NaN where it has none.
        ticks: places and their labels.
        ordered: whether neighbours are alike, so that there are values between them.
    """

    place: Callable[[Any], float]
    ticks: tuple[tuple[float, str], ...]
    ordered: bool = True


def scale_of(distribution: Distribution, values: Sequence[Any]) -> Scale:
    """The scale of a distribution, wide enough for ``values``, which may have been drawn from another one."""
    if isinstance(distribution, Choice):
        return _steps(distribution.values)
    logarithmic = isinstance(distribution, LogUniform) or (isinstance(distribution, Integers) and distribution.log)
    numbers = [value for value in values if isinstance(value, int | float) and (value > 0 or not logarithmic)]
    ends = [*distribution.ends(), *numbers]
    return line(min(ends), max(ends), logarithmic, isinstance(distribution, Integers))


def line(low: float, high: float, logarithmic: bool = False, whole: bool = False) -> Scale:
    """Numbers from ``low`` to ``high``; those beyond are at the ends."""
    if low == high:
        low, high = (low / 2, high * 2) if logarithmic else (low - 0.5, high + 0.5)
    turn: Callable[[float], float] = math.log if logarithmic else float
    bottom, top = turn(low), turn(high)

    def place(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return math.nan
        if logarithmic and value <= 0:
            return 0.0
        return min(1.0, max(0.0, (turn(value) - bottom) / (top - bottom))) if math.isfinite(value) else float(value > 0)

    marks = _log_marks(low, high) if logarithmic else _marks(low, high, whole)
    return Scale(place, tuple((place(mark), f"{mark:.6g}") for mark in marks))


def fence(values: Sequence[float], mode: str) -> tuple[float, float]:
    """Lowest and highest value to show; values so bad that all others would be squeezed together are beyond."""
    finite = np.array([value for value in values if math.isfinite(value)] or [0.0])
    first, third = np.quantile(finite, (0.25, 0.75))
    reach = 3 * (third - first)
    low, high = float(finite.min()), float(finite.max())
    if mode == "max":
        return max(low, float(first - reach)), high
    return low, min(high, float(third + reach))


def _steps(values: Sequence[Any]) -> Scale:
    def place(value: Any) -> float:
        at = next((index for index, other in enumerate(values) if same(value, other)), None)
        return math.nan if at is None else at / (len(values) - 1) if len(values) > 1 else 0.5

    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    ordered = len(numbers) == len(values) > 2 and sorted(numbers) in (numbers, numbers[::-1])
    return Scale(place, tuple((place(value), _label(value)) for value in values), ordered)


def _label(value: Any) -> str:
    label = text(value)
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def _marks(low: float, high: float, whole: bool) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    marks = MaxNLocator(_TICKS, integer=whole, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    slack = 1e-9 * (high - low)
    return [float(mark) for mark in marks if low - slack <= mark <= high + slack]


def _log_marks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        marks = [digit * 10.0**decade for decade in decades for digit in digits]
        marks = [mark for mark in marks if low * (1 - 1e-9) <= mark <= high * (1 + 1e-9)]
        if len(marks) <= _TICKS + 1:
            break
    else:
        marks = marks[:: math.ceil(len(marks) / _TICKS)]
    return marks if len(marks) > 1 else [low, high]

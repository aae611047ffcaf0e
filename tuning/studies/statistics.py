"""Whether one thing is better than another: paired differences, their interval, and correction for many comparisons.

Pairs share their seeds, so that a difference is the change's and not the seed's. Differences are taken to be normal
(Student's paired t); with many comparisons the p-values are Holm's, and the intervals are widened to the levels at
which Holm's procedure tests, so that an interval leaves out 0 exactly where the corrected test says "different". Equal
differences say nothing of how they spread (on few images a score has few values), so these are judged by their sign
alone: p is 2 ** (1 - pairs).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_NEEDED = 10**6
"""Where counting the pairs that are needed ends."""
_NOISE = 1e-9
"""Spreads below it, as a share of the largest difference, are rounding."""


@dataclass(frozen=True)
class Comparison:
    """What pairs say about a difference.

    Attributes:
        pairs: number of pairs.
        mean: of the differences.
        low, high: ends of the interval, corrected where several comparisons were made together.
        p: two-sided p-value, corrected likewise.
        different: whether the interval leaves out 0.
        spread: standard deviation of the differences.
        level: at which this comparison was tested.
    """

    pairs: int
    mean: float
    low: float
    high: float
    p: float
    different: bool
    spread: float
    level: float

    @property
    def needed(self) -> int | None:
        """Pairs that would be needed to see a difference of this size with 80 % power; None where nothing varies."""
        return _needed(self.mean, self.spread, self.level) if self.spread and self.mean else None


def compare(differences: Mapping[str, Sequence[float]], level: float = 0.05) -> dict[str, Comparison]:
    """Judge several comparisons together, by Holm's step-down procedure (Holm, 1979).

    Args:
        differences: name -> one difference a pair; at least two pairs each.
        level: probability of calling anything different where nothing is.

    Raises:
        ValueError: fewer than two pairs.
    """
    from scipy import stats

    raw: dict[str, tuple[float, float, float]] = {}
    for name, values in differences.items():
        if len(values) < 2:
            raise ValueError(f"{name} has {len(values)} pairs; a spread needs at least 2")
        mean = math.fsum(values) / len(values)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        error = spread / math.sqrt(len(values))
        if spread > _NOISE * max(1.0, *map(abs, values)):
            raw[name] = mean, error, float(2 * stats.t.sf(abs(mean) / error, len(values) - 1))
        else:
            raw[name] = mean, 0.0, 2.0 ** (1 - len(values)) if abs(mean) > _NOISE else 1.0
    results: dict[str, Comparison] = {}
    corrected, rejecting = 0.0, True
    for rank, name in enumerate(sorted(raw, key=lambda name: raw[name][2])):
        mean, error, p = raw[name]
        left = len(raw) - rank
        corrected = max(corrected, min(1.0, left * p))
        rejecting = rejecting and left * p <= level
        pairs = len(differences[name])
        half = error * float(stats.t.isf(level / left / 2, pairs - 1)) if error else 0.0
        if not rejecting:  # a step before this one failed, so this one is not called different either
            half = max(half, abs(mean))
        different, spread = rejecting and p < 1, error * math.sqrt(pairs)
        results[name] = Comparison(pairs, mean, mean - half, mean + half, corrected, different, spread, level / left)
    return {name: results[name] for name in differences}


def compare_shares(one: int, other: int, of: int, level: float = 0.05) -> Comparison:
    """Whether two networks differ, by how many of the same images each gets right (Agresti & Caffo, 2000).

    The interval adds one right and one wrong image to each, so that it holds near 0 and 1 too. It takes the two counts
    to be independent; networks that fail on the same images differ by less than it says.

    Args:
        one, other: images that each gets right.
        of: images.
        level: probability of calling equal networks different.
    """
    from scipy import stats

    shares = [(count + 1) / (of + 2) for count in (one, other)]
    error = math.sqrt(sum(share * (1 - share) for share in shares) / (of + 2))
    middle, half = shares[0] - shares[1], float(stats.norm.isf(level / 2)) * error
    p = float(2 * stats.norm.sf(abs(middle) / error))
    mean, low, high = (one - other) / of, middle - half, middle + half
    return Comparison(1, mean, low, high, p, low > 0 or high < 0, 0.0, level)


def _needed(mean: float, spread: float, level: float, power: float = 0.8) -> int:
    """The smallest number of pairs at which a paired t-test sees ``mean`` with that power."""
    from scipy import stats

    def reaches(pairs: int) -> bool:
        shift = abs(mean) / spread * math.sqrt(pairs)
        critical = stats.t.isf(level / 2, pairs - 1)
        return bool(stats.nct.sf(critical, pairs - 1, shift) + stats.nct.cdf(-critical, pairs - 1, shift) >= power)

    low, high = 1, 2
    while not reaches(high):
        low, high = high, 2 * high
        if high > MOST_NEEDED:
            return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high

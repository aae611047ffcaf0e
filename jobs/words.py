"""Numbers and names as messages write them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def any_of(words: Iterable[str]) -> str:
    """a, b or c."""
    words = list(dict.fromkeys(words))
    last = ", or " if any(", " in word for word in words) else " or "
    return last.join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def nearest(name: str, known: Iterable[str], most: int = 3, cutoff: float = 0.5) -> list[str]:
    """The known names that resemble ``name``, whatever their case, the most similar first.

    Args:
        name: a name that is not known.
        known: names.
        most: how many at most.
        cutoff: least similarity, from 0 to 1 (``difflib``).
    """
    lower = {each.lower(): each for each in known}
    return [lower[each] for each in get_close_matches(name.lower(), lower, most, cutoff)]


def suggestion(name: str, known: Iterable[str], otherwise: str, most: int = 3, cutoff: float = 0.5) -> str:
    """``did you mean a or b?``, or ``otherwise`` where nothing resembles ``name``; see :func:`nearest`."""
    near = nearest(name, known, most, cutoff)
    return f"did you mean {any_of(near)}?" if near else otherwise


def duration(seconds: float) -> str:
    """``8 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def byte_size(count: float) -> str:
    """Bytes as ``1.2 MB``, ``1,234 MB``, ``12.3 GB``; a MB has 2**20 of them."""
    if count < 100 * 2**20:
        return f"{count / 2**20:.1f} MB"
    return f"{count / 2**20:,.0f} MB" if count < 10_000 * 2**20 else f"{count / 2**30:,.1f} GB"

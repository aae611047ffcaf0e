"""What a check of the doctor found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The outcome of a check: ``level``, what was checked, what was found, and what to do about it."""

    level: Level
    check: str
    text: str
    cure: str = ""


Found = Finding | Iterable[Finding]

"""What a stage is made of: cells, each of which becomes one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where and how much is measured.

    Attributes:
        device: ``cuda`` or ``cpu``; all of it runs on a CPU too, which says nothing about a GPU.
        quick: the smallest sizes: shows that it works.
        folder: of the rows; what a stage has to keep for another day goes below it.
    """

    device: str
    quick: bool
    folder: Path

    def pick(self, usual: int, quick: int) -> int:
        """A size."""
        return quick if self.quick else usual


@dataclass(frozen=True)
class Cell:
    """One question.

    Attributes:
        name: under which its row is found again.
        act: answers it; whatever it raises becomes the row.
        limit_s: after so many seconds its process is killed, and the row says so.
    """

    name: str
    act: Callable[[Setting], Row]
    limit_s: float = 60.0


@dataclass(frozen=True)
class Stage:
    """Some cells, those that are worth most first.

    Attributes:
        name: of the stage.
        title: what it answers.
        limit_s: seconds that it may take of a session.
        cells: of a setting.
        width: processes side by side; with one, it has all cells, with more, each has a cell.
    """

    name: str
    title: str
    limit_s: float
    cells: Callable[[Setting], list[Cell]]
    width: Callable[[Setting], int] = lambda setting: 1

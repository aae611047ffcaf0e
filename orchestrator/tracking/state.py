"""How a run stands, as its recorder tells a live display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jobs.report import Progress, Record

Status = Literal["FINISHED", "FAILED", "KILLED"]
DONOR = "donor"
"""Series of a trial that took over weights of others: whose they were, by the epoch."""


@dataclass(frozen=True)
class State:
    """What a live display shows.

    Attributes:
        progress: the newest; None before the first.
        records: those new since the number the caller passed.
        seen: the number to pass next time.
        behind: events that MLflow does not have yet.
        trouble: why it does not, with the cure; None while all is well.
        stopping: the loop has got the message to stop.
        status: how the run ended; None while it runs.
    """

    progress: Progress | None
    records: list[Record]
    seen: int
    behind: int
    trouble: str | None
    stopping: bool
    status: Status | None

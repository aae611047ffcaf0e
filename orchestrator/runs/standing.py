"""How a submitted run stands, as its driver prints it for those who follow the job from elsewhere.

A job's log is all of a driver that Ray's job server hands out, and a job's metadata cannot be changed once it is
submitted. So the driver of a submitted job prints a line of JSON behind a fixed prefix whenever something changed;
the newest line counts. Nothing else in a log is read by machines.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from orchestrator.runs.origin import submission
from orchestrator.tracking.state import Status

PREFIX = "::orchestrator:: "
"""Before the JSON of each such line."""


@dataclass(frozen=True)
class Standing:
    """How a run or a search stands.

    Attributes:
        run: its name.
        unit: what is counted.
        done, in_all: the number done, and the number in all; ``in_all`` is None where that is open.
        metric, best: what ranks it, and the best value so far; None before the first.
        status: how it ended; None while it runs.
        cause: what ended it, in one line.
        kept: what is left of it to resume from; empty if nothing is, or it need not be resumed.
    """

    run: str
    unit: Literal["epochs", "trials"]
    done: int = 0
    in_all: int | None = None
    metric: str = "val/top1"
    best: float | None = None
    status: Status | None = None
    cause: str = ""
    kept: str = ""

    def publish(self) -> None:
        """Print it, if this process is the driver of a submitted job."""
        if submission():
            print(f"{PREFIX}{json.dumps(asdict(self))}", flush=True)

    @classmethod
    def last(cls, log: str) -> Standing | None:
        """The newest in a job's log; None if there is none."""
        names = {field.name for field in fields(cls)}
        for line in reversed(log.splitlines()):
            if data := _object(line.partition(PREFIX)[2]):
                known = {name: value for name, value in data.items() if name in names}  # another version may say more
                return cls(**known) if {"run", "unit"} <= known.keys() else None
        return None


def for_people(line: str) -> str | None:
    """What people are shown of a line of a job's log; None where all of it is for machines."""
    text, prefix, _ = line.partition(PREFIX)
    return text or None if prefix else line


def _object(text: str) -> dict[str, Any] | None:
    try:
        data = json.loads(text)
    except ValueError:  # cut off when the driver was killed
        return None
    return data if isinstance(data, dict) else None

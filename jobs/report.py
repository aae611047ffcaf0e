"""How the loop reports: it passes records and checkpoints on, and learns whether to continue or to stop."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.checkpoint import State


class Verdict(enum.Enum):
    """The answer to a report."""

    CONTINUE = "continue"
    STOP = "stop"


CONTINUE, STOP = Verdict.CONTINUE, Verdict.STOP


@dataclass(frozen=True)
class Record:
    """One value of one metric: ``name`` at ``step`` (the epoch, from 1, as the MLflow step), taken at ``time``
    (s, Unix)."""

    name: str
    step: int
    value: float
    time: float = field(default_factory=time.time, compare=False)


@dataclass(frozen=True)
class Progress:
    """Where the run is right now, for a live display; it is shown and forgotten, never stored."""

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    images_per_s: float
    batch_size: int


class Report:
    """What the loop calls; every message does nothing here, and implementers override those that they need.

    Rank 0 alone sends messages, and a call must never wait for a network. The loop carries the verdict to the other
    ranks, so implementations need no communication of their own.
    """

    def note(self, facts: Mapping[str, str]) -> None:
        """Take what was found out or chosen at the start (precision, device): it becomes tags of the run."""

    def progress(self, progress: Progress) -> Verdict:
        """Take where the run is; say whether it shall stop at the next step on which all ranks agree."""
        return CONTINUE

    def save(self, checkpoint: State) -> None:
        """Take a checkpoint, at a step on which all ranks agree; at the end of an epoch before its records."""

    def record(self, records: Sequence[Record]) -> Verdict:
        """Take the records of an epoch, or of the test split; say whether the run shall stop after the epoch."""
        return CONTINUE


class Keep(Report):
    """Keeps everything in memory; for notebooks and tests."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.checkpoints: list[State] = []

    def save(self, checkpoint: State) -> None:
        """Keep it."""
        self.checkpoints.append(checkpoint)

    def record(self, records: Sequence[Record]) -> Verdict:
        """Keep them."""
        self.records.extend(records)
        return CONTINUE

    def series(self, name: str) -> Mapping[int, float]:
        """The values of one metric by step."""
        return {record.step: record.value for record in self.records if record.name == name}


class Print(Report):
    """Prints one line an epoch; what ``torchrun -m jobs.train`` uses."""

    def record(self, records: Sequence[Record]) -> Verdict:
        """Print the records of an epoch on one line."""
        shown = [record for record in records if "recall/" not in record.name]
        if shown:
            values = "  ".join(f"{record.name} {record.value:.4g}" for record in shown)
            print(f"epoch {shown[0].step}: {values}", flush=True)
        return CONTINUE


class Files(Print):
    """Prints, and stores checkpoints under a folder or URL.

    Args:
        url: fsspec URL of the run's folder.
        keep: how many of the newest checkpoints stay.
    """

    def __init__(self, url: str, keep: int) -> None:
        from jobs.checkpoint import Store

        self.store = Store(f"{url}/checkpoints", keep)

    def save(self, checkpoint: State) -> None:
        """Start to store it."""
        self.store.save(checkpoint)

    def close(self) -> None:
        """Wait until everything is stored."""
        self.store.wait()

"""How the loop talks to whoever runs it: it hands over records and checkpoints and is told to go on or to stop."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

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


class Report(Protocol):
    """What the loop calls. Rank 0 alone passes records and progress; a call must never wait for a network.

    A checkpoint is passed by rank 0 at steps on which all ranks agree. The answer of rank 0 is carried to the others by
    the loop, so implementations need no communication of their own. Facts are what was found out or chosen on the way
    (precision, device): they become tags of the run.
    """

    def __call__(
        self,
        records: Sequence[Record] = (),
        checkpoint: State | None = None,
        progress: Progress | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Take what is passed; tell the loop to go on or to stop at the next step on which all ranks agree."""
        ...


class Keep:
    """Keeps everything in memory; for notebooks and tests."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.checkpoints: list[State] = []

    def __call__(
        self,
        records: Sequence[Record] = (),
        checkpoint: State | None = None,
        progress: Progress | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Remember records and checkpoints."""
        self.records.extend(records)
        if checkpoint is not None:
            self.checkpoints.append(checkpoint)
        return CONTINUE

    def series(self, name: str) -> Mapping[int, float]:
        """The values of one metric by step."""
        return {record.step: record.value for record in self.records if record.name == name}


class Print:
    """Prints one line an epoch; what ``torchrun -m jobs.train`` uses."""

    def __call__(
        self,
        records: Sequence[Record] = (),
        checkpoint: State | None = None,
        progress: Progress | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Verdict:
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

    def __call__(
        self,
        records: Sequence[Record] = (),
        checkpoint: State | None = None,
        progress: Progress | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Print the records; start to store the checkpoint."""
        if checkpoint is not None:
            self.store.save(checkpoint)
        return super().__call__(records)

    def close(self) -> None:
        """Wait until everything is stored."""
        self.store.wait()

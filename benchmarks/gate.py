"""The inside of a world: the gate at which it waits to be told to run its next segment, and a Report with a gate."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from jobs.report import CONTINUE, STOP, Progress, Record, Verdict

ADDRESS = "BENCHMARK_GATE"
"""Environment variable with the path of the socket on which the benchmark listens."""


class Gate:
    """Every rank makes one, which tells the benchmark its process; rank 0 alone waits at it."""

    def __init__(self, rank: int) -> None:
        line = socket.socket(socket.AF_UNIX)
        line.connect(os.environ[ADDRESS])
        self._line = Connection(line.detach())
        self._line.send((rank, os.getpid()))
        self._began = time.perf_counter()

    def pause(self, images: int = 0, **more: float) -> bool:
        """End the segment, which took so many images; True when the next one shall run, False to leave."""
        self._line.send({"seconds": time.perf_counter() - self._began, "images": images, **more})
        go: bool = self._line.recv()
        self._began = time.perf_counter()
        return go


class Gated:
    """The loop's Report with a gate before every epoch: a segment is an epoch without evaluation.

    Args:
        report: the real one, which is told everything.
        gate: where to wait.
    """

    def __init__(self, report: Any, gate: Gate) -> None:
        self.report, self.gate = report, gate
        self.per_epoch, self.leaving = 0, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.report, name)

    def __call__(
        self,
        records: Sequence[Record] = (),
        checkpoint: Any = None,
        progress: Progress | None = None,
        facts: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Verdict:
        """Pass it on, and wait where an epoch begins."""
        if self.leaving:
            return STOP
        self.told(records, checkpoint, progress, facts, more)
        if progress is not None:
            self.per_epoch = progress.steps // progress.epochs * progress.batch_size
        if facts is not None or any(record.name == "train/loss" for record in records):
            self.leaving = not self.pause()
        return STOP if self.leaving else CONTINUE

    def told(self, records: Any, checkpoint: Any, progress: Any, facts: Any, more: dict[str, Any]) -> None:
        """What reaches the real Report."""
        self.report(records, checkpoint, progress, facts, **more)

    def pause(self) -> bool:
        """Wait for the next segment."""
        return self.gate.pause(self.per_epoch)

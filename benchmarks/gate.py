"""The inside of a world: the gate at which it waits for its next segment, and a Report with a gate."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from jobs.checkpoint import State
from jobs.report import CONTINUE, STOP, Progress, Record, Report, Verdict

ADDRESS = "BENCHMARK_GATE"
"""Environment variable with the path of the socket on which the benchmark listens."""


class Gate:
    """Every rank makes one, which reports its process to the benchmark; rank 0 alone waits at it."""

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


class Gated(Report):
    """The loop's Report with a gate before every epoch: a segment is an epoch without evaluation.

    Args:
        report: the real one, which gets all messages.
        gate: where to wait.
    """

    def __init__(self, report: Any, gate: Gate) -> None:
        self.report, self.gate = report, gate
        self.per_epoch, self.leaving = 0, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.report, name)

    def note(self, facts: Mapping[str, str]) -> None:
        self.passed(self.report.note, facts)
        self._begin()

    def progress(self, progress: Progress) -> Verdict:
        self.per_epoch = progress.steps // progress.epochs * progress.batch_size
        self.passed(self.report.progress, progress)
        return self._verdict()

    def save(self, checkpoint: State) -> None:
        self.passed(self.report.save, checkpoint)

    def record(self, records: Sequence[Record]) -> Verdict:
        self.passed(self.report.record, records)
        if any(record.name == "train/loss" for record in records):
            self._begin()
        return self._verdict()

    def passed(self, method: Callable[[Any], Any], message: Any) -> None:
        """Pass a message on to the real Report."""
        if not self.leaving:
            method(message)

    def _begin(self) -> None:
        """Wait where an epoch begins."""
        self.leaving = self.leaving or not self.pause()

    def _verdict(self) -> Verdict:
        return STOP if self.leaving else CONTINUE

    def pause(self) -> bool:
        """Wait for the next segment."""
        return self.gate.pause(self.per_epoch)

"""What passes between a trial's loop and Tune: one result at a time, and the words it is encoded in."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.report import Record
from tuning.run.results import jsonable


class Abandoned(SystemExit):
    """Raised out of a report when Tune has ended the trial."""


class Line:
    """Between the loop, in a thread of its own, and Tune's ``step``: one result at a time.

    The loop waits for the next step, so that a trial that is stopped has computed nothing beyond the epoch that
    stopped it.
    """

    def __init__(self) -> None:
        self.abandoned = False
        self._results: queue.Queue[dict[str, Any] | BaseException] = queue.Queue()
        self._steps = threading.Semaphore(0)

    def put(self, result: dict[str, Any] | BaseException, last: bool = False) -> None:
        """From the loop: hand over a result, or the error that ended it, and wait for the next step."""
        self._results.put(result)
        if not last:
            self._steps.acquire()
        self.check()

    def check(self) -> None:
        """From the loop: leave it if the trial is abandoned."""
        if self.abandoned:
            raise Abandoned

    def get(self, first: bool) -> dict[str, Any]:
        """From Tune: let the loop run on, and wait for its next result; raises the error that ended it."""
        if not first:
            self._steps.release()
        result = self._results.get()
        if isinstance(result, BaseException):
            raise result
        return result

    def abandon(self) -> None:
        """From Tune: make the loop leave at its next report."""
        self.abandoned = True
        self._steps.release()


def epochs_of(records: Sequence[Record]) -> dict[int, dict[str, float]]:
    """The values of each epoch that was evaluated: epoch -> metric -> value."""
    epochs: dict[int, dict[str, float]] = {}
    for record in records:
        if not record.name.startswith(("test/", "system/", "best/")):
            epochs.setdefault(record.step, {})[record.name] = record.value
    return {epoch: values for epoch, values in sorted(epochs.items()) if "val/loss" in values}


def encode(epoch: int, values: Mapping[str, float]) -> dict[str, Any]:
    """The result of an epoch for Tune, whose results must not hold mappings."""
    return {"epoch": epoch, "values": json.dumps(jsonable(values))}


def decode(result: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Epoch and values of a result; values that are not finite are text."""
    return int(result["epoch"]), dict(json.loads(result["values"]))

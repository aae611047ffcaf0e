"""What passes between a trial's loop and Tune: one result at a time, and the words it is encoded in.

A worker of a group imports this, and Ray Tune nowhere.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.report import STOP, Progress, Record, Report, Verdict
from tuning.run.results import jsonable

if TYPE_CHECKING:
    from jobs.checkpoint import State
    from orchestrator.execution.worker import ToRecorder


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

    def put(self, result: dict[str, Any] | BaseException, last: bool = False) -> bool:
        """From the loop: hand over a result, or the error that ended it, and wait for the next step; False, since a
        trial that is to stop is left by an exception."""
        self._results.put(result)
        if not last:
            self._steps.acquire()
        self.check()
        return False

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


class ToTune(Report):
    """Reports to the recorder, then to Tune.

    Args:
        inner: the report that goes to the recorder.
        say: passes the result of an epoch to Tune, waits until it wants the next one, and returns whether to stop.
        same: values that are the same in every epoch.
        settled: wait until a checkpoint is stored before its epoch is reported to Tune: another trial may resume from
            it.
        check: raises an exception that ends the loop if the trial is over.
    """

    def __init__(
        self,
        inner: ToRecorder,
        say: Callable[[Any], bool],
        same: Mapping[str, float],
        settled: bool = False,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.inner, self.say, self.same, self.settled = inner, say, same, settled
        self.check = check or (lambda: None)
        self._seconds: dict[int, float] = {}

    def note(self, facts: Mapping[str, str]) -> None:
        """Pass them on."""
        self.inner.note(facts)
        self.check()

    def progress(self, progress: Progress) -> Verdict:
        """Pass it on."""
        verdict = self.inner.progress(progress)
        self.check()
        return verdict

    def save(self, checkpoint: State) -> None:
        """Pass it on."""
        self.inner.save(checkpoint)
        if self.settled:
            self.inner.close()
        self.check()

    def record(self, records: Sequence[Record]) -> Verdict:
        """Pass them on; report the epoch if it was evaluated."""
        verdict = self.inner.record(records)
        self.check()
        self._seconds |= {record.step: record.value for record in records if record.name == "epoch_s"}
        for epoch, values in epochs_of(records).items():
            seconds = sum(spent for at, spent in self._seconds.items() if at <= epoch)  # also of those not evaluated
            if self.say(encode(epoch, {**values, **self.same, "seconds": seconds})):
                return STOP
        return verdict


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

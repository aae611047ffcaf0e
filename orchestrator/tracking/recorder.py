"""The one writer of a run: takes what the loop reports, keeps it in the journal, and ships it to MLflow on the side.

A plain class; the launcher makes it a zero-CPU Ray actor. No method but ``close`` waits for a network: a thread ships.

Events of the journal, each with its ``time`` (s, Unix): ``begin`` (id, run, experiment, uri, params, tags, parent,
host, pid), ``resume`` (host, pid), ``metric`` (name, step, value), ``tag`` (key, value), ``artifact`` (path, to),
``end`` (status).
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from jobs.report import CONTINUE, STOP, Progress, Record, Verdict
from jobs.urls import redact
from orchestrator.home import default_uri
from orchestrator.tracking.best import DEFAULT, OBJECTIVE, Best
from orchestrator.tracking.journal import FILE, Event, Journal
from orchestrator.tracking.mlflow import Shipper
from orchestrator.tracking.places import relative
from orchestrator.tracking.state import State, Status
from orchestrator.tracking.uri import check_uri

log = logging.getLogger(__name__)

_TOLERANCE = 1e-6
_OF_THE_MACHINE = frozenset({"images_per_s", "epoch_s", "peak_memory_mb"})
_LONGEST_PAUSE_S = 30.0
_HEAD_START_S = 15.0
"""How long shipping waits for a run to report: importing MLflow takes seconds of a CPU, which starting workers need."""


class Recorder:
    """Records one run in ``folder``; an earlier life's records are known (:func:`jobs.report.Record` by name and step).

    Args:
        folder: the run's, ``<home>/runs/<name>``.
        ship: send to MLflow while running; without it ``sync`` does that later.

    Raises:
        Locked: another process records this run.
        ValueError: its journal is corrupt.
    """

    def __init__(self, folder: Path, ship: bool = True) -> None:
        self.folder = Path(folder)
        self._journal = Journal(self.folder / FILE)
        self._records = records_of(self._journal.events)
        self._values = {(record.name, record.step): record.value for record in self._records}
        self._tags = {event["key"]: event["value"] for event in self._journal.events if event["event"] == "tag"}
        self._best = Best(DEFAULT)
        self._differing: set[str] = set()
        self._progress: Progress | None = None
        self._stopping = self._pausing = False
        self._status: Status | None = None
        self._trouble: str | None = None
        self._shipper = Shipper(self.folder)
        self._wake, self._closing, self._over = threading.Event(), threading.Event(), threading.Event()
        self._under_way = threading.Event()
        self._thread = threading.Thread(target=self._ship, name="ship", daemon=True) if ship else None

    def begin(
        self,
        run: str,
        experiment: str,
        uri: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> None:
        """Open the run; if the journal has it already, resume it as it was started.

        Args:
            run: its name.
            experiment: name of the MLflow experiment.
            uri: MLflow tracking URI; None is :func:`orchestrator.home.default_uri`, without its password.
            params: dotted names and JSON values.
            tags: keys and values.
            parent: name of the run it belongs under, whose folder lies beside this one.

        Raises:
            ValueError: ``uri`` is unfit, or the folder holds another run.
        """
        now = {"time": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
        if self._journal.events:
            before = self._journal.events[0]["run"]
            if before != run:
                raise ValueError(
                    f"{self.folder} holds the run {before!r}, not {run!r}; give each run a folder of its own"
                )
            self._append([{"event": "resume", **now}])
            if self._tags.get("cause"):  # of the end before, which was none
                self.tag("cause", "")
        else:
            begun = {
                "event": "begin",
                "id": uuid.uuid4().hex,
                "run": run,
                "experiment": experiment,
                "uri": relative(check_uri(uri or redact(default_uri())), self.folder),
                "params": dict(params or {}),
                "tags": dict(tags or {}),
                "parent": parent,
            }
            self._append([begun | now])
        begun_tags = self._journal.events[0]["tags"]
        self._best = Best(begun_tags.get(OBJECTIVE, DEFAULT), self._records)
        if self._thread:
            self._thread.start()

    def record(self, records: Sequence[Record]) -> Verdict:
        """Keep the records; of several with one name and step the first stays, and one that differs is warned about."""
        new: dict[tuple[str, int], Record] = {}
        for record in records:
            key = (record.name, record.step)
            known = self._values.get(key, new[key].value if key in new else None)
            if known is None:
                new[key] = record
            elif not _same(record.name, known, record.value) and record.name not in self._differing:
                self._differing.add(record.name)
                log.warning(
                    "%s at step %d was %.9g and came out as %.9g when computed again; the first is kept. Other "
                    "threads, hardware or versions than before the restart explain it; if not, it is not reproducible",
                    *(record.name, record.step, known, record.value),
                )
        for record in self._best.of(new.values()):
            if (record.name, record.step) not in self._values:
                new[record.name, record.step] = record
        self._under_way.set()
        if new:
            self._append(_event(record) for record in new.values())
            self._records.extend(new.values())
            self._values.update({key: record.value for key, record in new.items()})
        return self._verdict()

    def progress(self, progress: Progress) -> Verdict:
        """Show it until the next one comes."""
        self._progress = progress
        self._under_way.set()
        return self._verdict()

    def tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        if self._tags.get(key) != value:
            self._append([{"event": "tag", "time": time.time(), "key": key, "value": value}])
            self._tags[key] = value

    def artifact(self, path: str | Path, to: str = "") -> None:
        """Put a file, or the files of a folder, among the run's artifacts.

        Args:
            path: absolute, or relative to the run's folder; it must stay there until it is shipped.
            to: folder among the artifacts.

        Raises:
            ValueError: there is nothing at ``path``.
        """
        if not (self.folder / path).exists():
            raise ValueError(f"there is no file {self.folder / path} to keep as an artifact; write it first")
        kept = Path(path)
        if kept.is_relative_to(self.folder):  # a copy of the folder has a copy of it
            kept = kept.relative_to(self.folder)
        self._append([{"event": "artifact", "time": time.time(), "path": str(kept), "to": to}])

    def stop(self) -> None:
        """Tell the loop, with its next report, to stop."""
        self._stopping = True

    def pause(self, pausing: bool) -> None:
        """Pause the loop at its next checkpoint, or let it train again; the run is not stopped."""
        self._pausing = pausing

    def state(self, seen: int = 0) -> State:
        """What to show; ``seen`` is the number the last state gave, 0 for all records."""
        return State(
            progress=self._progress,
            records=self._records[seen:],
            seen=len(self._records),
            behind=self._journal.seq - self._shipper.seq,
            trouble=self._trouble,
            stopping=self._stopping,
            status=self._status,
        )

    def end(self, status: Status) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        assert status in get_args(Status), status
        self._append([{"event": "end", "time": time.time(), "status": status}])
        self._status = status

    def finish(self) -> None:
        """Nothing more will come: the shipping thread ends once MLflow has everything. ``close`` comes later."""
        self._closing.set()
        self._under_way.set()
        self._wake.set()

    @property
    def shipped(self) -> bool:
        """Whether the shipping thread has ended, or never began."""
        return self._thread is None or not self._thread.is_alive()

    def close(self, wait_s: float = 30.0) -> int:
        """Ship what is left, for at most ``wait_s``, then let go of the journal; returns the events MLflow lacks."""
        self.finish()
        if self._thread and self._thread.ident:
            self._thread.join(wait_s)
        self._over.set()
        self._wake.set()
        self._journal.close()
        return self._journal.seq - self._shipper.seq

    def _append(self, events: Any) -> None:
        events = list(events)
        assert self._journal.events or events[0]["event"] == "begin", "begin() comes first"
        self._journal.append(events)
        self._status = None
        self._wake.set()

    def _verdict(self) -> Verdict:
        return STOP if self._stopping or self._pausing else CONTINUE

    def _ship(self) -> None:
        self._under_way.wait(_HEAD_START_S)
        pause = 1.0
        while not self._over.is_set():
            self._wake.clear()
            try:
                self._shipper.ship(self._journal.seq)
            except Exception as error:
                if self._trouble is None:
                    self._trouble = f"{error}. The run continues and its journal keeps everything; it is tried again"
                    log.warning("%s", self._trouble)
                if self._closing.is_set():
                    self._over.wait(min(pause, 1.0))
                else:
                    self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            if self._trouble is not None:
                log.warning("tracking works again; everything recorded meanwhile has been sent")
            self._trouble, pause = None, 1.0
            if self._shipper.seq == self._journal.seq:
                if self._closing.is_set():
                    return
                self._wake.wait()


def records_of(events: Sequence[Event]) -> list[Record]:
    """The records among a journal's events, in order."""
    return [
        Record(event["name"], event["step"], float(event["value"]), event["time"])
        for event in events
        if event["event"] == "metric"
    ]


def _event(record: Record) -> Event:
    value: float | str = record.value if math.isfinite(record.value) else str(float(record.value))
    return {"event": "metric", "time": record.time, "name": record.name, "step": record.step, "value": value}


def _same(name: str, first: float, again: float) -> bool:
    if name.startswith("system/") or name.rsplit("/", 1)[-1] in _OF_THE_MACHINE:
        return True
    if name == "lr":
        return first == again
    return (math.isnan(first) and math.isnan(again)) or math.isclose(first, again, rel_tol=_TOLERANCE)

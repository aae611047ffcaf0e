"""The one writer of every run of a driver: a job's only run, or the trials of a search. A zero-CPU Ray actor.

A run is addressed by its name; each has a :class:`Recorder`. Drivers and workers call the actor through
:class:`orchestrator.tracking.client.RecorderClient`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.report import STOP, Progress, Record, Verdict
from orchestrator.home import run_folder
from orchestrator.tracking.recorder import Recorder
from orchestrator.tracking.state import State, Status


class Recorders:
    """Records runs, each in its folder under ORCHESTRATOR_HOME.

    Args:
        environment: variables of the driver's environment that its process gets too.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        os.environ.update(environment or {})
        self._runs: dict[str, Recorder] = {}
        self._ended: list[str] = []
        self._warnings: list[tuple[str, str]] = []

    def begin(
        self,
        run: str,
        experiment: str,
        uri: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> State:
        """Open a run or resume it; what is recorded of it so far. See :meth:`Recorder.begin`."""
        self._sweep()
        assert run not in self._runs, f"{run} is open"
        recorder = Recorder(run_folder(run))
        recorder.begin(run, experiment, uri, params, tags, parent)
        self._runs[run] = recorder
        return recorder.state()

    def record(self, run: str, records: Sequence[Record]) -> Verdict:
        """Keep records; see :meth:`Recorder.record`. A run that has ended takes none, and the verdict is STOP."""
        if run in self._ended or run not in self._runs:
            return STOP
        return self._runs[run].record(records)

    def progress(self, run: str, progress: Progress) -> Verdict:
        """Show it until the next one comes."""
        if run in self._ended or run not in self._runs:
            return STOP
        return self._runs[run].progress(progress)

    def tag(self, run: str, key: str, value: str) -> None:
        """Set a tag of a run."""
        self._runs[run].tag(key, value)

    def artifact(self, run: str, path: str | Path, to: str = "") -> None:
        """Add a file, or the files of a folder, to a run's artifacts; see :meth:`Recorder.artifact`."""
        self._runs[run].artifact(path, to)

    def warn(self, run: str, text: str) -> None:
        """Keep a warning for whoever watches the driver, and tag the run with it."""
        self._warnings.append((run, text))
        self._runs[run].tag("warning", text)

    def warnings(self, seen: int = 0) -> list[tuple[str, str]]:
        """Run and text of the warnings since the first ``seen``."""
        return self._warnings[seen:]

    def stop(self, run: str | None = None) -> None:
        """Stop the loop of a run, or every one, at its next report."""
        for name, recorder in self._runs.items():
            if run in (None, name):
                recorder.stop()

    def pause(self, run: str) -> None:
        """Pause the loop of a run at its next report, as if it were stopped, until :meth:`unpause`."""
        self._runs[run].pause(True)

    def unpause(self, run: str) -> None:
        """Let the loop of a paused run start again."""
        self._runs[run].pause(False)

    def state(self, run: str, seen: int = 0) -> State:
        """What to show of a run; see :meth:`Recorder.state`."""
        return self._runs[run].state(seen)

    def end(self, run: str, status: Status, last: bool = False) -> None:
        """Close a run as FINISHED, FAILED or KILLED.

        Args:
            run: its name.
            status: how it ended.
            last: no more calls follow, so the run is dropped as soon as MLflow has all of it.
        """
        self._runs[run].end(status)
        if last:
            self._ended.append(run)
            self._runs[run].finish()

    def close(self, wait_s: float = 30.0) -> int:
        """Ship what is left of every run, for at most ``wait_s`` in all; returns the events that MLflow lacks."""
        for recorder in self._runs.values():
            recorder.finish()
        until = time.monotonic() + wait_s
        return sum(recorder.close(max(0.0, until - time.monotonic())) for recorder in self._runs.values())

    def _sweep(self) -> None:
        for run in [run for run in self._ended if self._runs[run].shipped]:
            self._runs.pop(run).close(0.0)
            self._ended.remove(run)

"""What a job starts before it knows whether it can be trained: Ray, the recorder's actor, and a group of workers.

Starting them takes longer than anything else and hardly any of the driver's own time, which imports and opens the data
meanwhile. What the workers need is sent to them afterwards. Where a file that the job names is missing, they are
started when they are asked for: the job will be refused, and nobody should have to wait for that.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from glob import glob
from typing import TYPE_CHECKING

from jobs.paths import absolute, paths
from jobs.spec import JobSpec
from orchestrator.execution import capacity, nodes
from orchestrator.execution.capacity import Cluster
from orchestrator.execution.group import Groups
from orchestrator.execution.interrupts import current
from orchestrator.execution.session import named, running

if TYPE_CHECKING:
    from orchestrator.tracking.client import RecorderClient


class Ahead:
    """Starts them in a thread.

    Attributes:
        groups: the workers.

    Args:
        spec: the job.
        run: its name.
        groups: workers at hand, which stay; None starts some, unless it is yet to be found out how many.
        start: starts Ray and the recorder's actor.
    """

    def __init__(self, spec: JobSpec, run: str, groups: Groups | None, start: Callable[[], RecorderClient]) -> None:
        self._there = running()
        self._joins = self._there or named()
        self._spec, self._run, self._start = spec, run, start
        self._own, self.groups = groups is None, groups or Groups()
        self._recorders: RecorderClient | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="ahead", daemon=True)
        if not _missing(spec):
            self._thread.start()

    def _work(self) -> None:
        try:
            self._recorders = self._start()
            self._workers(absolute(self._spec))
        except BaseException as error:
            self._error = error

    def _workers(self, spec: JobSpec) -> None:
        if not self._own or len(spec.sizes) > 1 or spec.compile == "auto":
            return
        fit = capacity.fit(spec, Cluster.joined())
        need, size = spec.resources.model_copy(update={"use_gpu": fit.use_gpu}), spec.sizes[0]
        if fit.problem is None and not fit.remark and nodes.has_room(need, size):
            self.groups.of(size, need, self._run, spec.checkpoint.storage)

    def cluster(self) -> Cluster:
        """Where the job is to run; a cluster of its own is not waited for.

        Raises:
            ConnectionError: see :func:`orchestrator.execution.session.start_ray`.
        """
        if not self._joins:
            return Cluster.here()
        if not self._there:
            self.recorders()
        return Cluster.at_hand()

    def recorders(self) -> RecorderClient:
        """The recorder, once Ray is there.

        Raises:
            ConnectionError: see :func:`orchestrator.execution.session.start_ray`.
        """
        if self._thread.ident is None:
            self._thread.start()
        self._settle()
        if self._error is not None:
            raise self._error
        assert self._recorders is not None
        return self._recorders

    def dismiss(self) -> None:
        """End the workers, but for those that were at hand before."""
        if self._own:
            self.groups.close()

    def end(self) -> None:
        """Leave nothing behind that is still being started."""
        if self._thread.ident is not None:
            self._settle()
        self.dismiss()

    def _settle(self) -> None:
        self._thread.join()
        current().renew()  # Ray puts a handler of its own before that of SIGTERM


def _missing(spec: JobSpec) -> bool:
    """Whether something of this machine that the job reads is not there."""
    named = [found.value for found in paths(absolute(spec)) if found.name != "checkpoint.storage"]
    return not all("://" in each or os.path.exists(each) or glob(each, recursive=True) for each in named)

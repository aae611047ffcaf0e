"""A group of warm workers: a job pays for nothing that the one before it left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import ray

from jobs.report import Report
from orchestrator.execution.group import Groups
from orchestrator.execution.launch import start_recorders
from orchestrator.execution.worker import Assignment
from tests.orchestrator.real import job

pytestmark = pytest.mark.slow


class Refusing(Report):
    """Of rank 0, which leaves while rank 1 waits for it."""

    def note(self, facts: Mapping[str, str]) -> None:
        raise ValueError("rank 0 alone")


def refusing(report: Report, say: Callable[[Any], bool]) -> Report:
    return Refusing()


@pytest.mark.usefixtures("cluster")
def test_workers_that_wait_for_one_that_left_are_started_again_before_the_next_job() -> None:
    spec = job("epochs=2", "resources.workers=2", "resources.use_gpu=false")
    recorders, data, groups = start_recorders(), ray.put(spec.data.open()), Groups()
    for run in ("left", "next"):
        recorders.begin(run, "group")
    try:
        group = groups.of(2, spec.resources, "left", None)
        left = group.run(Assignment(spec.model_dump_json(), data, recorders, "left", around=refusing))
        assert left.failure == "ValueError: rank 0 alone"
        answer = group.run(Assignment(spec.model_dump_json(), data, recorders, "next"))
        assert answer.ended_by == "epochs"
    finally:
        groups.close()
        recorders.kill()

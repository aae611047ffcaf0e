"""The worlds that are measured: our loop with its real Report, under torchrun, or as a whole job on Ray."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from benchmarks.gate import Gate, Gated
from jobs import specfile
from jobs.spec import JobSpec


def by_itself(spec: JobSpec) -> None:
    """As ``torchrun -m jobs.train`` does."""
    from jobs.place import Place, process_group
    from jobs.report import Print
    from jobs.train import train

    with process_group(False):
        place = Place.current(False)
        train(spec, place, Gated(Print(), Gate(place.rank)), {"data": spec.data.open()})


def worker(config: dict[str, Any], gated: Any = Gated) -> None:
    """Body of a Ray Train worker: the real one, with a gate before its Report."""
    import ray

    from orchestrator.execution import member, worker

    real, gate = worker.ToRecorder, Gate(ray.train.get_context().get_world_rank())
    worker.ToRecorder = lambda *given: gated(real(*given), gate)  # type: ignore[assignment, misc]
    member.serve(config)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("spec")
    parser.add_argument("--ray", metavar="MODULE:FUNCTION", help="run as a job on Ray, with this body of a worker")
    given = parser.parse_args()
    spec = specfile.read(given.spec, JobSpec)
    if given.ray is None:
        by_itself(spec)
        return
    import orchestrator.execution.member
    from orchestrator.execution import launch

    module, function = given.ray.split(":")
    orchestrator.execution.member.serve = getattr(importlib.import_module(module), function)
    print(launch.train(spec))


if __name__ == "__main__":
    main()

"""Seconds from the death of a worker to the end of the next epoch (0.1 s of training): digits, 2 workers."""

from __future__ import annotations

import os
import time

import psutil

from benchmarks.measure import SPREAD, Spread, header, number, options, table, workplace


def workers() -> list[psutil.Process]:
    """Processes of Ray Train workers below this one."""
    every = psutil.Process().children(recursive=True)
    return [process for process in every if "RayTrainWorker" in "".join(process.cmdline())]


def main() -> None:
    given = options(__doc__, pairs=7).parse_args()
    kills = 1 if given.quick else given.pairs
    header(given)
    with workplace() as folder:
        os.environ["ORCHESTRATOR_HOME"] = str(folder)
        from jobs import specfile
        from jobs.spec import JobSpec
        from orchestrator.execution import launch
        from orchestrator.tracking.state import State

        changes = [f"epochs={20 * (kills + 1)}", "checkpoint.every_epochs=1", f"resources.max_failures={kills + 1}"]
        spec = specfile.read("jobs/recipes/digits.yaml", JobSpec, changes)
        killed: list[float] = []
        back: list[float] = []

        def show(state: State) -> None:
            times = [record.time for record in state.records if record.name == "train/loss"]
            fresh = [when for when in times if killed and when > killed[-1] + 0.5]  # what was on its way is older
            if fresh and len(back) < len(killed):
                back.append(fresh[0])
            elif times and len(back) == len(killed) < kills and (not back or time.time() > back[-1] + 1):
                workers()[-1].kill()
                killed.append(time.time())

        result = launch.train(spec, show=show)
    assert result.status == "FINISHED", result
    seconds = [end - begin for begin, end in zip(killed, back, strict=True)]
    table(
        "s from a worker's death to the end of the next epoch", "", SPREAD, [["", *Spread.of(seconds).cells(number(2))]]
    )


if __name__ == "__main__":
    main()

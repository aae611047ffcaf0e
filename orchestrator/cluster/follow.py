"""A submitted job until its end, on the terminal: its lines as they come, and what Ctrl-C shall mean."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console

from orchestrator.cluster.client import Cluster, Job
from orchestrator.cluster.tail import Tail
from orchestrator.runs.standing import Standing, for_people

_OF_RAY = re.compile(r"\d{4}-\d\d-\d\d [\d:,.]+\s+(INFO|WARNING) \w+\.py:\d+ -- |Running entrypoint for job ")
_SETTLE_S = 15.0
_AFTER_S = 30.0
"""How much longer than the job was given Ray may take to say that it is stopped."""

Choice = Literal["d", "s", "c"]


@dataclass(frozen=True)
class Ended:
    """How the following ended: the job as it stands, and whether it continues unwatched."""

    job: Job
    detached: bool = False

    @property
    def code(self) -> int:
        """Exit code: 0 succeeded, 1 failed, 130 stopped, or no longer watched."""
        if self.detached or self.job.state == "STOPPED" or self.job.exit_code == 130:
            return 130
        return 0 if self.job.state == "SUCCEEDED" else 1


def ask() -> Choice:
    """What Ctrl-C shall mean; without a terminal it leaves the job alone."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "d"
    try:
        print(
            "\nThe job continues. [d]etach (default), [s]top it, [c]ontinue to watch? ",
            end="",
            file=sys.stderr,
        )
        answer = input().strip().lower()[:1]
    except (EOFError, KeyboardInterrupt):
        return "d"
    return answer if answer in ("s", "c") else "d"  # type: ignore[return-value]


def follow(cluster: Cluster, id: str, out: Console, ask: Callable[[], Choice] = ask) -> Ended:
    """Print what a job says until it ends.

    Args:
        cluster: where it runs.
        id: its submission id.
        out: where to print.
        ask: what an interrupt means.
    """
    lines = Tail(cluster, id)
    printer = Printer(out)
    while True:
        try:
            for text in lines:
                printer(text)
            printer.flush()
            return Ended(cluster.ended(id, _SETTLE_S))
        except KeyboardInterrupt:
            choice = ask()
            if choice == "d":
                return Ended(cluster.find_id(id), detached=True)
            if choice == "s":
                out.print("stopping: the job writes a last checkpoint; interrupt again to leave it to that")
                cluster.stop(id)


class Printer:
    """Prints whole lines of a job that are for people, without what Ray says of itself."""

    def __init__(self, out: Console) -> None:
        self._out, self._rest = out, ""

    def __call__(self, text: str) -> None:
        """Print the lines that ``text`` completes."""
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            if (shown := for_people(line)) is not None and not _OF_RAY.match(shown):
                self._out.print(shown, markup=False, soft_wrap=True)

    def flush(self) -> None:
        """Print what has no end of line."""
        if self._rest:
            self("\n")


def stop(cluster: Cluster, job: Job) -> Job:
    """Stop a job, and wait until it is."""
    cluster.stop(job.id)
    return cluster.ended(job.id, job.wait_s + _AFTER_S)


def summary(cluster: Cluster, job: Job, again: str | None) -> list[str]:
    """What came of a job that has ended, or still runs, in a few lines.

    Args:
        cluster: where it is.
        job: the job.
        again: the command that resumes it.
    """
    where = f"--address {cluster.address}{'' if cluster.guarded else ' --insecure'}"
    if not job.over:
        return [
            f"job      {job.id} is {job.state}",
            f"logs     orchestrator jobs logs {job.id} -f {where}",
            f"stop     orchestrator jobs stop {job.id} {where}",
        ]
    lines = [f"job      {job.id} {job.state}"]
    if job.state != "SUCCEEDED":
        log = cluster.logs(job.id)
        standing = Standing.last(log)
        lines.append(f"cause    {cause(job, log)}")
        if standing and standing.kept:
            lines.append(f"kept     {standing.kept}")
        if again:
            lines.append(f"resume   {again} {where}")
    return lines


def cause(job: Job, log: str) -> str:
    """Why a job ended as it did, in a line: as its driver printed it, else the last line of the log."""
    standing = Standing.last(log)
    if standing and standing.cause:
        return standing.cause
    lines = [shown for line in (log or job.message).splitlines() if (shown := for_people(line)) and shown.strip()]
    if job.exit_code == 127 or (lines and "No module named" in lines[-1]):
        return (
            f"{lines[-1].strip() if lines else 'command not found'}: the cluster's environment lacks it; start the "
            "cluster from the environment that this package is installed in, with its python first on the PATH"
        )
    return lines[-1].strip() if lines else job.message or job.state

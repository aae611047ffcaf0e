"""The ``orchestrator`` command with marks on its way to the first optimizer step; ``benchmarks.startup`` reads them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

MARKS = "BENCHMARK_MARKS"
"""Environment variable with the file to which every mark is appended: ``["name", seconds since 1970]``."""


def mark(name: str) -> None:
    """Note the time; only the first of a name counts."""
    with open(os.environ[MARKS], "a", encoding="utf-8") as file:
        file.write(json.dumps([name, time.time()]) + "\n")


def marked(function: Callable[..., Any], before: str | None = None, after: str | None = None) -> Callable[..., Any]:
    """The function with marks before or after it."""

    def call(*given: Any, **named: Any) -> Any:
        if before:
            mark(before)
        result = function(*given, **named)
        if after:
            mark(after)
        return result

    return call


def worker(config: dict[str, Any]) -> None:
    """Body of a Ray Train worker, with marks."""
    mark("worker")
    import jobs.train
    from jobs.run import Run
    from orchestrator.execution import network
    from orchestrator.execution.member import serve

    network.join = marked(network.join, after="joined")
    jobs.train.train = marked(jobs.train.train, before="loop")
    Run.settle = marked(Run.settle, after="model")  # type: ignore[method-assign]
    Run.update = marked(Run.update, after="step")  # type: ignore[method-assign]
    serve(config)


def torchrun(words: list[str]) -> None:
    """A process of torchrun, with a mark."""
    import jobs.__main__
    from jobs.run import Run

    Run.update = marked(Run.update, after="step")  # type: ignore[method-assign]
    jobs.__main__.main(words)


def main() -> None:
    if sys.argv[1] == "torchrun":
        return torchrun(sys.argv[2:])
    import orchestrator.execution.member
    from benchmarks import probe
    from jobs.data.digits import Digits
    from orchestrator import __main__
    from orchestrator.execution import launch

    # by its name in the module, so that workers can import it
    orchestrator.execution.member.serve = probe.worker
    launch.train = marked(launch.train, before="train")
    launch.fit_with_train = marked(launch.fit_with_train, before="ray")
    Digits.open = marked(Digits.open, after="data opened")  # type: ignore[method-assign]
    __main__.main()


if __name__ == "__main__":
    main()

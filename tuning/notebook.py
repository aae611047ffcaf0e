"""The Python interface for notebooks and scripts: searches with the specs of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.cli.console import echo
from orchestrator.notebook import Given, spec_of
from tuning.run import launch
from tuning.run.launch import Outcome
from tuning.spec.search import SearchSpec


def search(
    spec: Given | SearchSpec | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    resume: str | None = None,
    verbose: bool = False,
) -> Outcome:
    """Run a search, as ``orchestrator search launch`` and ``resume`` do.

    Args:
        spec: the search: a YAML file, its content as a mapping, or a ``SearchSpec``; None with ``resume``.
        changes: dotted name -> value, such as ``{"budget.trials": 20, "set.epochs": 5}``.
        resume: name of the search to resume instead.
        verbose: show Ray's own messages.

    Returns:
        the search's name, how it ended, its trials, ``ranked`` with the best first (each with ``run``, ``params`` and
        ``values``), and the HTML file of its ``report``.

    Raises:
        ValueError: the spec is wrong, or data or cluster do not fit it; nothing was started.
    """
    if (spec is None) == (resume is None):
        raise ValueError("give a search, or the name of one to resume")
    given = None if spec is None else spec_of(spec, SearchSpec, changes)

    def tell(text: str, lasting: bool) -> None:
        if lasting:
            echo(text)

    return launch.search(given, resume=resume, tell=tell, verbose=verbose)

"""Puts the command line, and the face for Python, together: the one place that sees all three packages."""

from pathlib import Path
from typing import Any

from jobs.base import Spec
from jobs.spec import JobSpec
from jobs.specfile.pages import Book
from orchestrator.cli import cluster, explain
from orchestrator.cli.init import init
from orchestrator.cli.jobs import build
from orchestrator.cli.shards import shards
from orchestrator.cluster.preflight import Kind
from tuning.cli import ablate, search
from tuning.spec.check import check
from tuning.spec.search import SearchSpec

KINDS: dict[str, type[Spec]] = {"job": JobSpec, "search": SearchSpec}
_ROOT = Path(__file__).parents[1]
_PAGE = """
# {0}: every field

`make reference` writes this page from the classes, and a test holds it current. The same on the terminal:
`orchestrator explain {1}`.

Fields are set by their dotted name: `-s {1}={2}`. {3}
A kind's fields have no kind in their name (`{4}`). *Used by* lists the files below `{5}` that set the field{6}.
"""
BOOKS = {
    "job": Book(
        JobSpec,
        _ROOT / "jobs" / "recipes",
        _PAGE.format(
            "The spec of a job",
            *(
                "batch.mixup.alpha",
                "0.4",
                "Entries of the lists `augment` and `batch` go by their kind (`batch.mixup.alpha`).",
            ),
            *("optimizer.lr", "jobs/recipes/", ", and the searches that set or vary it"),
        ),
    ),
    "search": Book(
        SearchSpec,
        _ROOT / "tuning" / "searches",
        _PAGE.format(
            "The spec of a search",
            *(
                "budget.trials",
                "20",
                "`NAME` stands for a dotted name of the job (docs/spec.md), as in `set` and `space`.",
            ),
            *("searcher.startup_trials", "tuning/searches/", ""),
        ),
    ),
}
"""What ``orchestrator explain`` knows."""


def _base(spec: SearchSpec) -> JobSpec:
    """The job that a search varies, once both ends of its ranges are seen to be sound."""
    check(spec)
    return spec.base()


SUBMITTED = (
    Kind("job", JobSpec, ("train",), "--run", lambda spec: spec),
    Kind("search", SearchSpec, ("search", "launch"), "--name", _base),
)
"""What ``orchestrator submit`` sends."""


def face(name: str) -> Any:
    """What ``from orchestrator import name`` gives: ``train``, ``search`` or ``evaluate``."""
    from orchestrator import notebook as jobs
    from tuning import notebook as searches

    return getattr(searches if name == "search" else jobs, name)


def main() -> None:
    """Run ``orchestrator``."""
    app = build(KINDS)
    app.command()(init)
    app.command()(shards)
    app.add_typer(search, name="search")
    app.command()(ablate)
    cluster.register(app, SUBMITTED)
    explain.register(app, BOOKS)
    app(prog_name="orchestrator")


if __name__ == "__main__":
    main()

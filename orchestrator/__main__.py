"""Puts the command line together: the one place that sees all three packages."""

from jobs.spec import JobSpec
from orchestrator.cli import build
from orchestrator.init.command import init
from tuning.cli import ablate, search
from tuning.search import SearchSpec

KINDS = {"job": JobSpec, "search": SearchSpec}


def main() -> None:
    """Run ``orchestrator``."""
    app = build(KINDS)
    app.command()(init)
    app.add_typer(search, name="search")
    app.command()(ablate)
    app(prog_name="orchestrator")


if __name__ == "__main__":
    main()

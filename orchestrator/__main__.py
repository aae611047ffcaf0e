"""Puts the command line, and the face for Python, together: the one place that sees all three packages."""

from typing import Any

from jobs.base import Spec
from jobs.spec import JobSpec
from orchestrator.cli import cluster
from orchestrator.cli.init import init
from orchestrator.cli.jobs import build
from orchestrator.cluster.preflight import Kind
from tuning.cli import ablate, search
from tuning.spec.check import check
from tuning.spec.search import SearchSpec

KINDS: dict[str, type[Spec]] = {"job": JobSpec, "search": SearchSpec}


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
    app.add_typer(search, name="search")
    app.command()(ablate)
    cluster.register(app, SUBMITTED)
    app(prog_name="orchestrator")


if __name__ == "__main__":
    main()

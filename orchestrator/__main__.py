"""Puts the command line together: the one place that sees all three packages."""

from jobs.spec import JobSpec
from orchestrator.cli import build

KINDS = {"job": JobSpec}


def main() -> None:
    """Run ``orchestrator``."""
    build(KINDS)(prog_name="orchestrator")


if __name__ == "__main__":
    main()

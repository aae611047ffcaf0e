"""Where a job runs: Ray places it, MLflow tracks it.

In Python: ``from orchestrator import train, search, evaluate``, with the specs of the command line; see
:mod:`orchestrator.notebook` and ``tuning.notebook``.
"""

from typing import Any

__all__ = ["evaluate", "search", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from orchestrator.__main__ import face  # when it is asked for: workers import this package, and need none of it

    return face(name)

"""Where a job runs: Ray places it, MLflow tracks it.

In Python: ``from orchestrator import train, search, evaluate``, with the specs of the command line; see
:mod:`orchestrator.notebook`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.notebook import evaluate, search, train

__all__ = ["evaluate", "search", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from orchestrator import notebook  # when it is asked for: workers import this package too, and need none of it

    return getattr(notebook, name)

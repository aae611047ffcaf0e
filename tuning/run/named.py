"""A search by its name: begun already, and as the same search, or not yet."""

from __future__ import annotations

from orchestrator.home import run_folder
from orchestrator.runs.resume import NAME
from orchestrator.tracking.journal import FILE as RUN
from tuning.run.history import FILE, History
from tuning.spec.search import SearchSpec


def begun(spec: SearchSpec) -> History | None:
    """The search with the name of ``spec``, to be resumed; None if it has not begun.

    Raises:
        ValueError: it began as another search, or a run is called so.
    """
    if not NAME.fullmatch(spec.name):
        raise ValueError(f"{spec.name!r} is no name for a search: letters, digits, dots, - and _, at most 81 of them")
    folder = run_folder(spec.name)
    if not (folder / FILE).exists():
        if (folder / RUN).exists():
            raise ValueError(f"{spec.name} is a run, not a search; take another name")
        return None
    history = History.look(folder)
    if history.spec is None:
        return None
    before, after = history.spec.flatten(), spec.absolute().flatten()
    if wrong := [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]:
        lines = "".join(f"\n  {name}: {before.get(name)!r} there, {after.get(name)!r} here" for name in wrong)
        raise ValueError(
            f"search {spec.name} cannot be resumed with another spec than its own; they differ in{lines}\n"
            f"To resume it as started: orchestrator search resume {spec.name}. To search otherwise, take another name"
        )
    return history

"""Searches by their names: found, named anew, or begun already as the same search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobs.base import Spec
from jobs.paths import absolute
from orchestrator.home import home, run_folder
from orchestrator.runs.resume import NAME
from orchestrator.tracking.journal import FILE as RUN
from tuning.run.history import FILE, History
from tuning.spec.search import SearchSpec

_LONGEST = 81
"""Characters of a search's name."""


def new_name(wanted: str) -> str:
    """The name, or the first of name-2, name-3, ... that no search or run has, nor trials of a search that is gone."""
    return _first(wanted, lambda name: any((home() / "runs").glob(f"{name}-[0-9][0-9][0-9][0-9]")))


def new_run(wanted: str) -> str:
    """The same for a run of a search."""
    return _first(wanted, lambda name: False)


def _first(wanted: str, taken: Callable[[str], bool]) -> str:
    number, name = 1, wanted
    while run_folder(name).exists() or taken(name):
        number += 1
        name = f"{wanted[: _LONGEST - len(f'-{number}')]}-{number}"
    return name


def find(name: str) -> Path:
    """The folder of a search.

    Raises:
        ValueError: there is none of that name.
    """
    folder = run_folder(name)
    if "/" not in name and (folder / FILE).exists():
        return folder
    known = sorted(path.parent.name for path in (home() / "runs").glob(f"*/{FILE}"))
    raise ValueError(f"there is no search {name!r}; there is {', '.join(known) or 'none yet'}")


def begun(spec: SearchSpec) -> History | None:
    """The search with the name of ``spec``, to be resumed; None if it has not begun.

    Raises:
        ValueError: it began as another search, or a run is called so.
    """
    if not NAME.fullmatch(spec.name):
        raise ValueError(f"{spec.name!r} is not a valid name for a search: letters, digits, dots, - and _, at most 81")
    folder = run_folder(spec.name)
    if not (folder / FILE).exists():
        if (folder / RUN).exists():
            raise ValueError(f"{spec.name} is a run, not a search; take another name")
        return None
    history = History.look(folder)
    if history.spec is None or not (folder / RUN).exists():  # what was wrong then may have been put right
        return None
    before, after = history.spec, spec.absolute()
    wrong = _differing(before, after) or _differing(before.whole(), absolute(after.whole()))
    if wrong:
        raise ValueError(
            f"search {spec.name} cannot be resumed with another spec or job than its own; they differ in{wrong}\n"
            f"To resume it as started: orchestrator search resume {spec.name}. To search otherwise, take another name"
        )
    return history


def _differing(before: Spec, after: Spec) -> str:
    """A line for each field that differs."""
    was, now = before.flatten(), after.flatten()
    wrong = [name for name in dict.fromkeys([*was, *now]) if was.get(name) != now.get(name)]
    return "".join(f"\n  {name}: {was.get(name)!r} there, {now.get(name)!r} here" for name in wrong)

"""Resuming a run: only fields that do not change its result may differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs import specfile
from jobs.lock import holder
from jobs.paths import changed
from jobs.spec import JobSpec
from orchestrator.home import run_folder
from orchestrator.runs import store
from orchestrator.runs.origin import here
from orchestrator.tracking.journal import FILE, Event, lock_path, read

SPEC = "spec.yaml"
"""Name of a run's spec in its folder."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}")
"""What a run may be called."""
MAY_CHANGE = (
    "accumulation",
    "budget",
    "checkpoint.every_epochs",
    "checkpoint.every_steps",
    "checkpoint.keep",
    "compile",
    "data.cache_gb",
    "data.check",
    "early_stopping",
    "evaluation.batch_size",
    "resources",
)
"""Fields, with all below them, that may differ from the run's own when it is resumed."""
_FORM = ("size", "channels", "mean", "std")  # of images; data leaves them out where pretrained weights say them


def stored(name: str) -> Path:
    """The spec file of the run called ``name``.

    Raises:
        ValueError: there is no such run, it is a search, or its folder has lost the file.
    """
    path = store.find(name) / SPEC
    _check_run(name, _events(name))
    if not path.exists():
        raise ValueError(f"run {name} has no {path}, so nobody knows what it was; start a new run")
    return path


def begun(name: str) -> store.Status | None:
    """How the run called ``name`` stands; None where there is none, or where it died before its spec was kept.

    Raises:
        ValueError: the name is not valid, or is that of a search.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name for a run: letters, digits, dots, - and _, at most 81")
    events = _events(name) if (run_folder(name) / FILE).exists() else []
    _check_run(name, events)
    return store.status_of(run_folder(name), events) if (run_folder(name) / SPEC).exists() else None


def settled(name: str, spec: JobSpec) -> JobSpec:
    """``spec`` with what was found out when the run called ``name`` began: whether compiling pays, and the form of the
    images that its pretrained weights want."""
    kept = specfile.read(stored(name), JobSpec)
    if spec.compile == "auto":
        spec = spec.model_copy(update={"compile": kept.compile})
    if spec.model.pretrained is not None and type(spec.data) is type(kept.data):
        found = {field: getattr(kept.data, field) for field in _FORM if getattr(spec.data, field) is None}
        spec = spec.model_copy(update={"data": spec.data.model_copy(update=found)})
    return spec


def check_finished(name: str, spec: JobSpec) -> None:
    """See that the finished run called ``name`` is the one that ``spec`` says.

    Raises:
        ValueError: it had another spec, in more than what may change.
    """
    if lines := _refused(_differences(name, spec)):
        raise ValueError(
            f"run {name} is FINISHED, with another spec than this; they differ in{lines}\n"
            "To train with the other values, start a new run: give it another name, or leave --run out"
        )


def changes(name: str, spec: JobSpec) -> dict[str, tuple[Any, Any]]:
    """What ``spec`` changes of the run called ``name``: dotted name -> value in the run, value now (None for absent).

    Args:
        name: the run.
        spec: what it is resumed with; paths absolute, as in the stored one.

    Raises:
        ValueError: the run is unknown, a search or a trial of one, still running or finished, or what may not change
            does.
    """
    stored(name)
    if owner := holder(lock_path(run_folder(name) / FILE)):
        raise ValueError(f"run {name} is still running ({owner}); interrupt it first, or wait for it")
    events = _events(name)
    tags, search = events[0]["tags"], events[0]["parent"]
    if search and ("ordinal" in tags or "role" in tags) and (run_folder(search) / FILE).exists():
        raise ValueError(f"run {name} is of search {search}; resume that with: orchestrator search resume {search}")
    if store.status_of(run_folder(name), events) == "FINISHED":
        raise ValueError(
            f"run {name} is FINISHED: its test split has been scored, so there is nothing to resume; start a new run"
        )
    different = _differences(name, spec)
    if lines := _refused(different):
        raise ValueError(
            f"run {name} cannot be resumed with another spec than its own; they differ in{lines}\n"
            f"To resume it as it was started: orchestrator train --resume {name}   (these may change with -s: "
            f"{', '.join(MAY_CHANGE)}). To use the other values, start a new run without --resume"
        )
    return different


def _events(name: str) -> list[Event]:
    return [entry.event for entry in read(run_folder(name) / FILE)]


def _check_run(name: str, events: Sequence[Event]) -> None:
    """Refuse a search."""
    if events and events[0]["tags"].get("kind") == "search":
        raise ValueError(f"{name} is a search; resume it with: orchestrator search resume {name}")


def _differences(name: str, spec: JobSpec) -> dict[str, tuple[Any, Any]]:
    kept = changed(specfile.read(stored(name), JobSpec), lambda found: here(found.value))
    before, after = kept.flatten(), spec.flatten()
    return {
        field: (before.get(field), after.get(field))
        for field in dict.fromkeys([*before, *after])
        if before.get(field) != after.get(field) or (field in before) != (field in after)
    }


def _refused(different: dict[str, tuple[Any, Any]]) -> str:
    """A line for each field that may not differ."""
    wrong = {field: values for field, values in different.items() if not _may_change(field)}
    return "".join(f"\n  {field}: {was!r} in the run, {now!r} here" for field, (was, now) in wrong.items())


def _may_change(field: str) -> bool:
    return any(f"{field}.".startswith(f"{free}.") for free in MAY_CHANGE)

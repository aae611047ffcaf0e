"""The runs under ORCHESTRATOR_HOME: list them, remove them, and free the disk of what is no longer needed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.lock import Lock, holder
from jobs.words import suggestion
from orchestrator.home import home, run_folder, run_url
from orchestrator.runs import storage
from orchestrator.tracking.journal import FILE, Event, lock_path, read
from orchestrator.tracking.mlflow import Shipper

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

_DOOMED = ".removed-"  # a folder on its way out: one that a kill left behind is distinguished from a run


@dataclass(frozen=True)
class Size:
    """Bytes on this disk."""

    checkpoints: int
    model: int
    rest: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.checkpoints + self.model + self.rest


@dataclass(frozen=True)
class Run:
    """A run at a glance.

    Attributes:
        name, experiment: as it was begun; ``parent`` is the search it belongs to.
        status: KILLED also where its driver died without a word.
        behind: events that MLflow does not have yet; ``orchestrator sync`` sends them.
        started: Unix seconds.
        epochs: epochs done; ``epochs_in_all`` is None where the spec is unknown.
        val_top1, test_top1: fractions, the newest; None before the first.
        size: what it takes on this disk.
        error: why its journal cannot be read; the rest is then unknown.
    """

    name: str
    status: Status
    experiment: str = ""
    parent: str | None = None
    behind: int = 0
    started: float = 0.0
    epochs: int = 0
    epochs_in_all: int | None = None
    val_top1: float | None = None
    test_top1: float | None = None
    size: Size = Size(0, 0, 0)
    error: str | None = None


def list_runs() -> list[Run]:
    """All runs, the newest first; reads local files alone."""
    runs = [_run(path.parent) for path in (home() / "runs").glob(f"*/{FILE}") if not path.parent.name.startswith(".")]
    return sorted((run for run in runs if run), key=lambda run: run.started, reverse=True)


def find(name: str) -> Path:
    """The folder of the run called ``name``.

    Raises:
        ValueError: there is none; the message has the nearest names.
    """
    folder = run_folder(name)
    if name not in ("", ".", "..") and "/" not in name and (folder / FILE).exists():
        return folder
    known = sorted(path.parent.name for path in (home() / "runs").glob(f"*/{FILE}"))
    cure = suggestion(name, known, "list them with: orchestrator runs list", cutoff=0.4)
    raise ValueError(f"there is no run {name!r} in {home() / 'runs'}; {cure}")


def remove(name: str, keep_in_mlflow: bool = False) -> dict[str, int]:
    """Delete a run: its folder, what it has in its storage, its MLflow run and the artifacts on this disk. Of a search
    its trials and the runs at its end go first; teachers that were trained for it stay, as others may learn from them.

    Returns:
        The bytes freed of each run.

    Raises:
        ValueError: it is unknown, one is still running, its storage does not answer, or MLflow names a folder for its
            artifacts that is not theirs; that run was not deleted.
        Unreachable: MLflow does not answer; nothing more was deleted.
    """
    folder, freed = find(name), dict[str, int]()
    trials = _of_search(folder)
    for each in (folder, *trials):
        if owner := holder(lock_path(each / FILE)):
            raise ValueError(f"run {each.name} is still running ({owner}); stop it first")
    with Lock(lock_path(folder / FILE)):  # nobody resumes it meanwhile
        for trial in trials:
            with Lock(lock_path(trial / FILE)):
                freed[trial.name] = _remove(trial, keep_in_mlflow)
        freed[name] = _remove(folder, keep_in_mlflow)
    return freed


def _of_search(folder: Path) -> list[Path]:
    """The folders of the runs that a search trained; none for a job."""
    begun = [(path.parent, _begin(path)) for path in sorted(folder.parent.glob(f"[!.]*/{FILE}"))]
    return [path for path, begin in begun if begin and begin["tags"].get("search") == folder.name]


def _begin(journal: Path) -> Event | None:
    try:
        entries = read(journal)
    except (OSError, ValueError):  # of which nobody knows what it was
        return None
    return entries[0].event if entries else None


def _remove(folder: Path, keep_in_mlflow: bool) -> int:
    elsewhere = storage.of(folder.name)
    freed = storage.size(folder.name, elsewhere) if elsewhere else 0
    artifacts = None if keep_in_mlflow else Shipper(folder).delete()
    if elsewhere:
        storage.delete(folder.name, elsewhere)
    doomed = [folder.rename(folder.with_name(f"{_DOOMED}{folder.name}"))]
    if artifacts:
        doomed.append(artifacts.parent)
    freed += sum(size_of(path) for path in doomed)
    for path in doomed:
        shutil.rmtree(path, ignore_errors=True)
    return freed


@dataclass(frozen=True)
class Freed:
    """Something that was deleted, or would be: where, the bytes, and why it is not needed."""

    path: Path | str
    bytes: int
    why: str


def gc(keep_model: bool = True, dry_run: bool = False) -> list[Freed]:
    """Delete the checkpoints of finished runs, and what killed processes left half written or half deleted.

    Runs that failed or were killed keep their checkpoints: they can be resumed.

    Args:
        keep_model: leave the models of finished runs; without it only their records and figures stay.
        dry_run: delete nothing, say what would be.
    """
    found: list[Freed] = []
    for folder in sorted((home() / "runs").glob("*")):
        if folder.name.startswith(_DOOMED):
            found.append(Freed(folder, size_of(folder), "its removal was cut short"))
            continue
        if holder(lock_path(folder / FILE)):
            continue
        found += [Freed(path, size_of(path), "half written") for path in sorted(folder.rglob("*.tmp"))]
        run = _run(folder) if (folder / FILE).exists() else None
        if run and run.status == "FINISHED":
            parts = ["checkpoints"] if keep_model else ["checkpoints", "model"]
            found += [Freed(folder / part, size_of(folder / part), "the run is finished") for part in parts]
            found += _elsewhere(run.name, [*parts, "ray"], dry_run)
    found = [item for item in found if isinstance(item.path, str) or item.path.exists()]
    if not dry_run:
        for item in found:
            if isinstance(item.path, Path):
                shutil.rmtree(item.path) if item.path.is_dir() else item.path.unlink(missing_ok=True)
    return found


def _elsewhere(run: str, parts: list[str], dry_run: bool) -> list[Freed]:
    """What a finished run has in its storage and does not need, deleted unless it is a ``dry_run``."""
    there = storage.of(run)
    if there is None:
        return []
    found = []
    for part in parts:
        if held := storage.size(run, there, part):
            found.append(Freed(f"{run_url(run, there)}/{part}", held, "the run is finished"))
            if not dry_run:
                storage.delete(run, there, part)
    return found


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files under a folder; 0 where there is nothing."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.lstat().st_size if not file.is_dir() else 0
        except FileNotFoundError:  # a live run deletes its old checkpoints
            continue
    return total


def status_of(folder: Path, events: list[Event]) -> Status:
    """How the run in ``folder`` is doing, told from its journal and from who writes it."""
    if holder(lock_path(folder / FILE)):
        return "RUNNING"
    last = next((event for event in reversed(events) if event["event"] in ("begin", "resume", "end")), None)
    status: Status = last["status"] if last and last["event"] == "end" else "KILLED"
    return status


def _run(folder: Path) -> Run | None:
    try:
        entries = read(folder / FILE)
    except (OSError, ValueError) as error:
        return Run(folder.name, "FAILED", error=str(error), size=_size(folder))
    if not entries:
        return None
    events = [entry.event for entry in entries]
    begin = events[0]
    last = {event["name"]: event for event in events if event["event"] == "metric"}
    epochs = [event["step"] for event in events if event["event"] == "metric" and event["name"].startswith("train/")]
    value = {name: float(event["value"]) for name, event in last.items()}
    return Run(
        name=folder.name,
        status=status_of(folder, events),
        experiment=begin["experiment"],
        parent=begin["parent"],
        behind=entries[-1].seq - Shipper(folder).seq,
        started=begin["time"],
        epochs=max(epochs, default=0),
        epochs_in_all=begin["params"].get("epochs"),
        val_top1=value.get("val/top1"),
        test_top1=value.get("test/top1"),
        size=_size(folder),
    )


def _size(folder: Path) -> Size:
    checkpoints, model = size_of(folder / "checkpoints"), size_of(folder / "model")
    return Size(checkpoints, model, size_of(folder) - checkpoints - model)

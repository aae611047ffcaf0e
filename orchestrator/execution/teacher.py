"""The teacher of a distillation, made a folder before any worker starts: a run's model, or a job trained once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from jobs import specfile
from jobs.data.cache import key
from jobs.data.sets import Data
from jobs.distillation import Distillation, JobTeacher, RunTeacher, StoredTeacher
from jobs.lock import Lock, Locked
from jobs.paths import absolute
from jobs.spec import JobSpec
from jobs.words import duration
from orchestrator.home import home
from orchestrator.models import lookup
from orchestrator.runs import storage

WAIT_S = 7 * 24 * 3600.0
"""How long another process may train the same teacher."""
log = logging.getLogger(__name__)


def resolve(spec: JobSpec, data: Data, train: Callable[[JobSpec], str]) -> JobSpec:
    """The spec with its teacher, if it has one, as a folder that ``jobs.models.load`` reads.

    Args:
        spec: the job, with absolute paths.
        data: what the student is trained on.
        train: trains a job, and answers with the name of its finished run.

    Raises:
        ValueError: there is no such teacher, or it cannot teach this student.
    """
    if spec.distillation is None:
        return spec
    teacher = spec.distillation.teacher
    if isinstance(teacher, RunTeacher):
        folder = _of_run(teacher.run)
    elif isinstance(teacher, JobTeacher):
        folder = _of_job(teacher, train)
    else:
        folder = teacher.folder(data)
    stored = StoredTeacher(path=folder, check_classes=teacher.check_classes)
    spec = spec.model_copy(update={"distillation": spec.distillation.model_copy(update={"teacher": stored})})
    assert spec.distillation is not None
    _check(spec.distillation, folder, data)
    return spec


def told(distillation: Distillation, data: Data) -> str:
    """Who will teach, for a dry run; checked as far as nothing has to be trained or fetched for it.

    Raises:
        ValueError: there is no such teacher, or it cannot teach this student.
    """
    teacher = distillation.teacher
    if isinstance(teacher, JobTeacher):
        _job(teacher)
        return f"trained first, once: {teacher.job}"
    if isinstance(teacher, RunTeacher):
        _check(distillation, _of_run(teacher.run), data)
        return f"run {teacher.run}"
    if isinstance(teacher, StoredTeacher):
        folder = absolute(teacher, "distillation.teacher").folder(data)
        _check(distillation, folder, data)
        return f"model {folder}"
    return f"{teacher.kind} {teacher.name}"


def _check(distillation: Distillation, folder: str, data: Data) -> None:
    meta = Path(folder) / "model.json"
    distillation.check(_loaded(folder, meta.stat().st_mtime_ns if meta.exists() else 0), data)


class _Known(NamedTuple):
    """What a student needs to know of its teacher."""

    channels: int
    classes: tuple[str, ...]


@lru_cache(8)
def _loaded(folder: str, stamp: int) -> _Known:
    """The teacher of a folder, read whole once, so that a damaged one is refused before anything starts."""
    from jobs.models import load

    try:
        teacher = load(folder)
    except FileNotFoundError as error:
        raise ValueError(f"distillation.teacher: there is no model in {folder}; give a run's model folder") from error
    return _Known(teacher.channels, teacher.classes)


def _of_run(name: str) -> str:
    """The model of a finished run, by its name here or its id in MLflow."""
    try:
        return str(lookup.find(name).model)
    except ValueError as error:
        raise ValueError(f"distillation.teacher: {error}") from None


def _job(teacher: JobTeacher) -> JobSpec:
    """The job of a teacher, with absolute paths."""
    try:
        spec = specfile.read(Path(teacher.job), JobSpec, [f"{name}={json.dumps(v)}" for name, v in teacher.set.items()])
    except specfile.SpecError as error:
        raise ValueError(f"distillation.teacher.job: {error}") from error
    if spec.distillation is not None and isinstance(spec.distillation.teacher, JobTeacher):
        raise ValueError(f"distillation.teacher.job: {teacher.job} has a teacher job of its own; train that one first")
    return absolute(spec)


def _of_job(teacher: JobTeacher, train: Callable[[JobSpec], str]) -> str:
    """The model of a job that is trained now, unless the same job was trained for this before."""
    spec = _job(teacher)
    what = {**spec.model_dump(mode="json", exclude={"resources", "tracking", "checkpoint"}), "parts": spec.parts}
    note = home() / "teachers" / key(json.dumps(what, sort_keys=True))
    note.parent.mkdir(parents=True, exist_ok=True)
    with _patient_lock(note.with_suffix(".lock"), teacher.job):
        if note.exists():
            folder = storage.model(note.read_text(encoding="utf-8"))
            if (folder / "model.json").exists():
                return str(folder)
        name = train(spec)
        note.write_text(name, encoding="utf-8")
    return str(storage.model(name))


def _patient_lock(path: Path, job: str) -> Lock:
    """The lock of a teacher, once nobody else trains it.

    Raises:
        ConnectionError: another process does for longer than any training should take.
    """
    try:
        return Lock(path)
    except Locked as error:  # it has waited a second already
        log.warning("another process trains the teacher %s; waiting for it (%s)", job, error)
    try:
        return Lock(path, WAIT_S)
    except Locked as error:
        raise ConnectionError(
            f"waited {duration(WAIT_S)} for another process to train the teacher {job}: {error}; or train it as a run "
            "of its own, and name that (distillation.teacher: {kind: run, run: NAME})"
        ) from None

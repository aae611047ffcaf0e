"""Checkpoints and models of runs where ``checkpoint.storage`` says: ``<storage>/<run>/``, which all nodes reach.

Beside them lies ``<storage>/weights``, with the teachers and pretrained weights that drivers handed to their workers.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from jobs.models.stored import FILES
from jobs.spec import JobSpec
from jobs.urls import filesystem, is_url, make_folder, refused
from orchestrator.home import home, run_folder, run_url

_FIELD = "checkpoint.storage"
_PARTS = ("checkpoints", "model", "ray")  # all that a run writes there


def check(storage: str | None) -> None:
    """See that a storage can be written to.

    Raises:
        ValueError: it cannot; with the cure.
    """
    if storage is None:
        return
    fs, inside = filesystem(storage, _FIELD)
    probe = f"{inside}/.probe-{uuid.uuid4().hex}"
    try:
        if not is_url(storage):
            fs.makedirs(inside, exist_ok=True)
        fs.pipe_file(probe, b"")  # a bucket that is missing is not made: its name may be mistyped
        fs.rm_file(probe)
    except Exception as error:  # each library has its own
        raise refused(storage, _FIELD, error) from error


def of(run: str) -> str | None:
    """The storage of a run, as its spec in its folder says; None where that is ORCHESTRATOR_HOME, or unknown."""
    try:
        told = YAML(typ="safe").load(run_folder(run) / "spec.yaml")
        return told["checkpoint"]["storage"] or None
    except (OSError, YAMLError, KeyError, TypeError):
        return None


def has_checkpoint(run: str) -> bool:
    """Whether a run left a checkpoint that was written to its end.

    Raises:
        ValueError: its storage does not answer.
    """
    there = of(run)
    fs, inside = filesystem(run_url(run, there), _FIELD)
    fs.invalidate_cache()
    try:
        return bool(fs.glob(f"{inside}/checkpoints/step_*/state.json"))
    except Exception as error:  # each library has its own
        raise refused(str(there), _FIELD, error) from error


def size(run: str, storage: str | None, part: str = "") -> int:
    """Bytes that a run has there, in all or in one folder of it.

    Raises:
        ValueError: the storage does not answer.
    """
    fs, inside = filesystem(run_url(run, storage), _FIELD)
    fs.invalidate_cache()
    try:
        return int(fs.du(f"{inside}/{part}".rstrip("/")))
    except FileNotFoundError:
        return 0
    except Exception as error:  # each library has its own
        raise refused(str(storage), _FIELD, error) from error


def delete(run: str, storage: str | None, part: str = "") -> None:
    """Delete what a run has there: one folder of it, or all that runs write. What else is there stays.

    Raises:
        ValueError: the storage does not answer, or does not allow it.
    """
    if not part:
        for each in _PARTS:
            delete(run, storage, each)
        folder = Path(run_url(run, storage))
        if not is_url(str(storage)) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        return
    url = f"{run_url(run, storage)}/{part}"
    if not is_url(url):
        shutil.rmtree(url, ignore_errors=True)
        return
    fs, inside = filesystem(url, _FIELD)
    fs.invalidate_cache()
    try:
        fs.rm(inside, recursive=True)
    except FileNotFoundError:
        pass
    except Exception as error:  # each library has its own
        raise refused(str(storage), _FIELD, error) from error


def model(run: str) -> Path:
    """The folder of a run's model on this machine, fetched where it is elsewhere alone; there may be none.

    Raises:
        ValueError: the storage does not answer.
    """
    target = run_folder(run) / "model"
    storage = of(run)
    if storage is None or (target / FILES[-1]).exists():
        return target
    fs, inside = filesystem(f"{run_url(run, storage)}/model", _FIELD)
    fs.invalidate_cache()
    try:
        if fs.exists(f"{inside}/{FILES[-1]}"):
            target.mkdir(parents=True, exist_ok=True)
            for name in FILES:  # the one that makes it whole is the last
                beside = target / f".{name}.{uuid.uuid4().hex}.tmp"
                fs.get_file(f"{inside}/{name}", str(beside))
                os.replace(beside, target / name)
    except Exception as error:  # each library has its own
        raise refused(storage, _FIELD, error) from error
    return target


def shared(spec: JobSpec) -> JobSpec:
    """The job with its teacher and its pretrained weights where all nodes reach them, copied to its storage once.

    Args:
        spec: the job; its teacher and its pretrained weights, if any, are folders.
    """
    storage = spec.checkpoint.storage
    if storage is None:
        return spec
    changes: dict[str, Any] = {}
    if spec.distillation is not None:
        teacher = _copy(spec.distillation.teacher, storage)
        changes["distillation"] = spec.distillation.model_copy(update={"teacher": teacher})
    if spec.model.pretrained is not None:
        changes["model"] = spec.model.model_copy(update={"pretrained": _copy(spec.model.pretrained, storage)})
    return spec.model_copy(update=changes)


def _copy(stored: Any, storage: str) -> Any:
    """What is stored in a folder on this machine, as it is stored there; what is elsewhere already, as it is."""
    path = getattr(stored, "path", None)
    if path is None or is_url(path) or not Path(path, FILES[-1]).exists():
        return stored
    told = Path(path, FILES[-1]).read_bytes()
    url = run_url(hashlib.sha256(told).hexdigest()[:16], f"{storage.rstrip('/')}/weights")
    fs, inside = filesystem(url, _FIELD)
    fs.invalidate_cache()
    try:
        if not fs.exists(f"{inside}/{FILES[-1]}"):
            make_folder(fs, inside)
            for name in FILES:  # the one that makes it whole is the last
                fs.pipe_file(f"{inside}/{name}", Path(path, name).read_bytes())
    except Exception as error:  # each library has its own
        raise refused(storage, _FIELD, error) from error
    return stored.model_copy(update={"path": url})


def for_ray(run: str, storage: str | None) -> dict[str, Any]:
    """Where Ray Train keeps its own notes of a run: arguments of its ``RunConfig``; all nodes must reach it."""
    if storage is None:
        return {"storage_path": str(home() / "ray")}
    if not is_url(storage):
        return {"storage_path": f"{run_url(run, storage)}/ray"}
    import pyarrow.fs

    fs, inside = filesystem(f"{run_url(run, storage)}/ray", _FIELD)
    return {"storage_path": inside, "storage_filesystem": pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))}

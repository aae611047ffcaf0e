"""Trained models by what people call them: a run's name, its id in MLflow, or a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import specfile
from jobs.data.cache import key
from jobs.spec import JobSpec
from jobs.urls import redact
from orchestrator.home import default_uri, home
from orchestrator.runs import images, storage, store
from orchestrator.runs.resume import SPEC
from orchestrator.tracking.journal import FILE, Event, read
from orchestrator.tracking.mlflow import Shipper

_META, _DIGEST = "model.json", "dataset.digest"


@dataclass(frozen=True)
class Found:
    """A trained model.

    Attributes:
        name: what to call it.
        model: the folder that ``jobs.models.load`` reads.
        run: the folder of the run that it came of; None where that is not on this machine.
        output: where what is made of it lies.
    """

    name: str
    model: Path
    run: Path | None
    output: Path

    def spec(self) -> JobSpec:
        """The job that it was trained by.

        Raises:
            ValueError: nobody knows.
        """
        path = (self.run or self.model.parent) / SPEC
        if not path.exists():
            raise ValueError(
                f"{self.name} has no {path}, so its own splits are unknown; give the path of labelled images"
            )
        return specfile.read(path, JobSpec)

    def data(self) -> dict[str, Any]:
        """What is known of the data that the run was trained on, as :func:`jobs.data.identity.check_same` takes it."""
        if self.run is not None and (self.run / images.FILE).exists():
            kept: dict[str, Any] = json.loads((self.run / images.FILE).read_text(encoding="utf-8"))
            return kept
        if self.run is not None:
            digest = read(self.run / FILE)[0].event["tags"].get("dataset.digest")
        else:
            note = self.model.parent / _DIGEST
            digest = note.read_text(encoding="utf-8") if note.exists() else None
        return {} if digest is None else {"digest": digest}


def find(name: str) -> Found:
    """The trained model that ``name`` means.

    Args:
        name: a run under ORCHESTRATOR_HOME, the id of a run in MLflow, or a folder: of a run, or of a model.

    Raises:
        ValueError: there is none; the message has the nearest names.
    """
    try:
        return _of_run(store.find(name))
    except _NoModelError:
        raise
    except ValueError as error:
        refusal = str(error)
    if os.path.isdir(os.path.expanduser(name)):
        return _of_folder(Path(name).expanduser().absolute())
    for shipped in (home() / "runs").glob("*/shipped.json"):
        if Shipper(shipped.parent).target[1] == name:
            return _of_run(shipped.parent)
    try:
        model = _from_mlflow(name)
    except ConnectionError as error:
        raise ValueError(f"{refusal}; nor is it a folder, nor the id of a run in MLflow: {error}") from None
    return Found(name, model, None, home() / "models" / name)


class _NoModelError(ValueError):
    pass


def chosen(events: Sequence[Event]) -> str | None:
    """The run at the end of a search that it chose, by the events of its journal; None before there is one."""
    tags = (event for event in reversed(events) if event["event"] == "tag")
    return next((str(tag["value"]) for tag in tags if tag["key"] in ("chosen", "winner")), None)


def _of_run(folder: Path) -> Found:
    if not (storage.model(folder.name) / _META).exists():
        events = [entry.event for entry in read(folder / FILE)]
        if events[0]["tags"].get("kind") == "search":
            run = chosen(events)
            runs = f"it chose {run}" if run else f"orchestrator compare {folder.name} lists them"
            raise _NoModelError(f"{folder.name} is a search; name one of its runs: {runs}")
        raise _NoModelError(f"run {folder.name} has no model; only a finished run has one (see orchestrator runs list)")
    return Found(folder.name, folder / "model", folder, folder)


def _of_folder(folder: Path) -> Found:
    model = folder if (folder / _META).exists() else folder / "model"
    if not (model / _META).exists():
        raise ValueError(f"{folder} is no model: it has no {_META}; give the folder of a model or of a finished run")
    if (model.parent / FILE).exists():
        return Found(model.parent.name, model, model.parent, model.parent)
    name = model.parent.name if model.name == "model" else model.name
    return Found(name, model, None, home() / "models" / f"{name}-{key(str(model))[:8]}")


def _from_mlflow(run_id: str) -> Path:
    """The model, and the spec beside it, that MLflow keeps for a run of that id.

    Raises:
        ConnectionError: it has none, or does not answer.
    """
    from mlflow.exceptions import MlflowException

    from orchestrator.tracking.mlflow import connect

    target = home() / "cache" / "teachers" / key(default_uri(), run_id)
    if (target / "model" / _META).exists() and (target / _DIGEST).exists():
        return target / "model"
    client = connect(redact(default_uri()), home() / "artifacts")
    target.mkdir(parents=True, exist_ok=True)
    try:
        digest = client.get_run(run_id).data.tags.get("dataset.digest", "")
        for artifact in (SPEC, "model"):
            client.download_artifacts(run_id, artifact, str(target))
        (target / _DIGEST).write_text(digest, encoding="utf-8")
    except (MlflowException, OSError) as error:
        raise ConnectionError(str(error).strip().splitlines()[0]) from None
    return target / "model"

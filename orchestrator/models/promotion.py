"""A run's model into MLflow's registry, with all that is needed to use it and to train it again."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.names import printable
from jobs.urls import redact
from orchestrator.home import default_uri, home
from orchestrator.models import lookup
from orchestrator.runs import compare, storage
from orchestrator.runs import store as runs
from orchestrator.runs.resume import SPEC
from orchestrator.tracking.journal import FILE, read
from orchestrator.tracking.mlflow import Shipper, connect
from orchestrator.tracking.state import DONOR

if TYPE_CHECKING:
    from mlflow.models import Model

    from jobs.models import LoadedModel

_ALIAS = re.compile(r"(?!(?i:latest|v\d+)$)[\w-]{1,255}", re.ASCII)
_NAME = re.compile(r"[^/:\x00-\x1f\x7f]{1,250}")
_TAG = 5000
_REQUIRES = ("mlflow", "torch", "torchvision", "timm", "safetensors", "pydantic", "fsspec", "numpy", "pandas", "pillow")
_INPUT = "an image: base64 text or bytes of an encoded file, or nested lists (height, width[, channels]) of 0 .. 255"


@dataclass(frozen=True)
class Promoted:
    """A registered version.

    Attributes:
        name, version, alias: in MLflow's registry.
        run: the name of the run that it came of.
        store: MLflow's tracking URI, without its password.
    """

    name: str
    version: str
    alias: str
    run: str
    store: str

    @property
    def uri(self) -> str:
        """What MLflow loads and serves."""
        return f"models:/{self.name}@{self.alias}"


def promote(run: str, alias: str, registered: str | None = None) -> Promoted:
    """Register the model of a run, or of the one that a search chose, and give it an alias.

    Args:
        run: name of a run or a search, or the id of a run in MLflow.
        alias: such as ``champion``; it is taken from the version that has it.
        registered: name of the registered model, made where it is missing; None takes that of the job.

    Raises:
        ValueError: there is no such model, its run is not in MLflow yet, or MLflow takes no such name or alias.
        orchestrator.tracking.mlflow.Unreachable: the tracking server does not answer.
    """
    if not _ALIAS.fullmatch(alias):
        raise ValueError(
            f"--alias {printable(alias)!r} is not a valid alias: letters, digits, - and _, at most 255, and neither "
            "latest nor a version such as v1; for example champion"
        )
    if registered is not None and not (_NAME.fullmatch(registered) and registered.strip(" .")):
        raise ValueError(
            f"--name {printable(registered)!r} is not a valid name for a registered model: it needs a letter or digit, "
            "and may have neither / nor : in it"
        )
    found = lookup.find(_best(run))
    uri, run_id = Shipper(found.run).target if found.run else (redact(default_uri()), found.name)
    if found.run is None and found.name != run:
        raise ValueError(f"{run} is the folder of a model, but only the model of a run can be registered; name a run")
    if not run_id:
        raise ValueError(f"run {found.name} is not in MLflow yet; send it with: orchestrator sync")
    client = connect(uri, home() / "artifacts")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    from jobs.models import load

    spec, model = found.spec(), load(found.model)
    name = spec.name if registered is None else registered
    tracked = client.get_run(run_id)
    told, experiment = _told(found, model, tracked.data.tags), tracked.info.experiment_id
    if DONOR in tracked.data.metrics:  # its weights are partly those of other trials
        del told["repeat"]
    tags = {key: text if len(text) <= _TAG else f"{text[: _TAG - 10]} ... (cut)" for key, text in told.items()}
    logged = client.create_logged_model(
        experiment, re.sub(r"[/:.%\"']", "-", name), run_id, tags, model_type="image classifier"
    )
    meta = Model(model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id, metadata=told)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            package(found, model, Path(scratch) / "model", meta)
            client.log_model_artifacts(logged.model_id, f"{scratch}/model")
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # a database of our own would look "models:/..." up in MLflow's global store, which is another
    source = f"models:/{logged.model_id}" if uri.startswith("http") else logged.artifact_location
    made = client.create_model_version(
        name, source, run_id, tags, description=_description(found, told), model_id=logged.model_id
    )
    client.set_registered_model_alias(name, alias, made.version)
    return Promoted(name, str(made.version), alias, found.name, uri)


def package(found: lookup.Found, model: LoadedModel, target: Path, meta: Model | None = None) -> None:
    """Write MLflow's folder of a model: weights as safetensors, code as files, nothing pickled.

    Args:
        found: whose it is.
        model: the same, loaded.
        target: the new folder.
        meta: what is known of it already.
    """
    import mlflow
    from mlflow.types.schema import AnyType, ColSpec, DataType, Map, Schema

    inputs = Schema([ColSpec(AnyType(), "image")])
    outputs = Schema(
        [
            ColSpec(DataType.string, "class"),
            ColSpec(DataType.double, "probability"),
            ColSpec(Map(DataType.double), "probabilities"),
        ]
    )
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        code = Path(scratch) / "jobs"
        shutil.copytree(here.parents[1] / "jobs", code, ignore=shutil.ignore_patterns("__pycache__", "recipes"))
        artifacts = {"model": str(found.model)}
        spec = (found.run or found.model.parent) / SPEC
        if spec.exists():
            artifacts["spec"] = str(spec)
        mlflow.pyfunc.save_model(
            target,
            python_model=str(here / "served.py"),
            artifacts=artifacts,
            code_paths=[str(code)],
            signature=mlflow.models.ModelSignature(inputs, outputs),
            input_example=_example(model),
            pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in _REQUIRES],
            mlflow_model=meta,
        )


def _best(name: str) -> str:
    """The run at the end of a search that it chose, its winner or its job as it was, else its best trial; any other
    name as it is."""
    try:
        folder = runs.find(name)
    except ValueError:
        return name
    events = [entry.event for entry in read(folder / FILE)]
    if events[0]["tags"].get("kind") != "search":
        return name
    run = lookup.chosen(events)
    if run is not None and (storage.model(run) / "model.json").exists():
        return run
    best = compare.compare([name], 1).rows[0]
    if not (storage.model(runs.find(best.name).name) / "model.json").exists():
        raise ValueError(
            f"the best trial of search {name} is {best.name}, which has no model ({best.status}); name another run"
        )
    return best.name


def _example(model: LoadedModel) -> Any:
    """A grey square, as a request holds it."""
    import pandas as pd
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L" if model.channels == 1 else "RGB", (model.size, model.size), "gray").save(buffer, "PNG")
    return pd.DataFrame({"image": [base64.b64encode(buffer.getvalue()).decode()]})


def _told(found: lookup.Found, model: LoadedModel, tags: Mapping[str, str]) -> dict[str, str]:
    """What a person wants to know of a registered model."""
    metrics = model.meta.get("metrics", {})
    given = {
        "run": found.name,
        "classes": json.dumps(model.classes),
        "preprocessing": json.dumps(model.meta["preprocessing"]),
        "spec": (found.run or found.model.parent).joinpath(SPEC).read_text(encoding="utf-8"),
        "weights.sha256": model.meta["sha256"],
        "input": _INPUT,
        "repeat": f"orchestrator train {SPEC}",
    }
    kept = {name: tags[name] for name in ("dataset.digest", "revision", "revision.dirty") if name in tags}
    if "revision" in kept:
        given["repeat"] = f"git checkout {kept['revision']} && {given['repeat']}"
    return given | kept | {name: f"{value:.6g}" for name, value in metrics.items()}


def _description(found: lookup.Found, told: Mapping[str, str]) -> str:
    scores = ", ".join(f"{name} {told[name]}" for name in ("test/top1", "test/loss") if name in told)
    changed = " (with changes that were not committed)" if told.get("revision.dirty") == "True" else ""
    about = f"Model of run {found.name}; {scores}.\n\nInput: {told['input']}. Output: class and probabilities.\n\n"
    if "repeat" not in told:
        return f"{about}It took over weights of other trials of its search, so no job repeats it.\n"
    return (
        f"{about}To train it again, with the {SPEC} among its artifacts and the data of digest "
        f"{told.get('dataset.digest', 'unknown')}:\n\n    {told['repeat']}{changed}\n"
    )

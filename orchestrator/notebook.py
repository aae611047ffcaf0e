"""The Python interface for notebooks and scripts: train and evaluate with the specs of the command line.

``search`` is in ``tuning.notebook``; ``orchestrator`` itself exports all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from jobs import specfile
from jobs.base import Spec
from jobs.spec import JobSpec
from orchestrator.cli.console import out
from orchestrator.cli.progress import Display
from orchestrator.execution import launch
from orchestrator.execution.launch import Result
from orchestrator.models.evaluation import Evaluation
from orchestrator.models.evaluation import evaluate as _evaluate

Given = str | PathLike[str] | Mapping[str, Any]
"""A YAML file, or the content of one."""
AnySpec = TypeVar("AnySpec", bound=Spec)


def train(
    spec: Given | JobSpec,
    changes: Mapping[str, Any] | None = None,
    *,
    resume: str | None = None,
    verbose: bool = False,
) -> Result:
    """Train a job, here or on the cluster of RAY_ADDRESS, as ``orchestrator train`` does.

    Args:
        spec: the job: a YAML file, its content as a mapping, or a ``JobSpec``.
        changes: dotted name -> value, such as ``{"epochs": 5, "optimizer.lr": 0.2}``.
        resume: name of the run to resume.
        verbose: show Ray's own messages.

    Returns:
        the run's name, how it ended (``status`` is KILLED after an interrupt), and its ``test/...`` metrics.

    Raises:
        ValueError: the spec is wrong, or data or cluster do not fit it; nothing was started.
        RuntimeError: the run failed; the first cause is in the message.
    """
    job = spec_of(spec, JobSpec, changes)
    with Display(out, job) as display:
        result = launch.train(job, resume, display, display.tell, verbose)
    if result.status == "FAILED":
        raise RuntimeError(f"run {result.run} failed: {result.ended_by}")
    return result


def evaluate(run: str | Result, data: str | PathLike[str] = "test", output: str | Path | None = None) -> Evaluation:
    """Judge a trained model on labelled images, as ``orchestrator evaluate`` does.

    Args:
        run: what :func:`train` gave, the name of a run, its id in MLflow, or the folder of a model.
        data: ``test`` or ``val`` for the run's own splits, or the path of class folders or Parquet files.
        output: folder for metrics and figures; None makes one below the run's.

    Raises:
        ValueError: there is no such model, or its classes and the data do not fit.
    """
    return _evaluate(run.run if isinstance(run, Result) else run, str(data), output)


def spec_of(given: Given | Spec, kind: type[AnySpec], changes: Mapping[str, Any] | None) -> AnySpec:
    """The spec that was given, with changes by dotted name.

    Raises:
        ValueError: it is none, or is wrong.
    """
    if isinstance(given, kind):
        spec = given
    elif isinstance(given, Mapping):
        spec = kind.model_validate(given)
    elif isinstance(given, str | PathLike):
        spec = specfile.read(Path(given), kind)
    else:
        raise ValueError(f"a {kind.__name__} is wanted, a mapping or a file, but {type(given).__name__} was given")
    return spec.override(changes) if changes else spec

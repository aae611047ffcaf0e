"""Does a run come out again? Rebuilt from what MLflow holds of it, trained once more, and compared bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs import specfile
from jobs.spec import JobSpec
from jobs.urls import redact
from orchestrator.execution import launch
from orchestrator.execution.worker import WEIGHTS
from orchestrator.home import default_uri, home
from orchestrator.runs import store
from orchestrator.runs.resume import SPEC
from orchestrator.tracking.mlflow import Shipper, connect
from orchestrator.tracking.state import DONOR, State

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_CLOCKS = ("images_per_s", "epoch_s", "peak_memory_mb", "system/")
"""What measures the machine and not the training."""
_MACHINE = ("revision", "host", "python", "version.", "device", "precision", "channels_last", "compile")
VERIFIES = "verifies"
"""Tag of a run that repeats another: the id of that one in MLflow."""


@dataclass(frozen=True)
class Held:
    """What MLflow holds of a run.

    Attributes:
        run: its name.
        tags: all of them.
        values: (epoch, metric) -> the first value that was recorded, without what measures the machine.
    """

    run: str
    tags: Mapping[str, str]
    values: Mapping[tuple[int, str], float]

    @property
    def weights(self) -> str | None:
        """SHA-256 of its tensors as stored; None of a run that did not come to its end."""
        return self.tags.get(WEIGHTS)


@dataclass(frozen=True)
class Difference:
    """The first value that is not the same.

    Attributes:
        epoch, metric: where it is.
        before, again: the two values.
    """

    epoch: int
    metric: str
    before: float
    again: float


@dataclass(frozen=True)
class Verdict:
    """How a repetition compares.

    Attributes:
        before, again: the run and its repetition.
        compared: number of values that both have.
        first: the first that differs.
        unmatched: metrics that only one of them has.
        machine: tag -> its two values, where they differ.
    """

    before: Held
    again: Held
    compared: int
    first: Difference | None
    unmatched: tuple[str, ...]
    machine: Mapping[str, tuple[str | None, str | None]]

    @property
    def equal(self) -> bool:
        """Whether every value, and the weights where both are there, are the same."""
        return self.first is None and self.before.weights in (None, self.again.weights)


@dataclass(frozen=True)
class Repetition:
    """A run that is to be repeated.

    Attributes:
        run_id: of the run in MLflow.
        before: what MLflow holds of it.
        spec: its job, with what was chosen automatically as it was chosen then.
    """

    run_id: str
    before: Held
    spec: JobSpec

    @classmethod
    def of(cls, name: str) -> Repetition:
        """That of a run here, or of an id in MLflow.

        Raises:
            ValueError: there is no such finished run, MLflow lacks its spec, or the data are not what they were.
        """
        client, run_id = _locate(name)
        before = held(client, run_id)
        status = client.get_run(run_id).info.status
        if status != "FINISHED":
            raise ValueError(f"run {before.run} is {status}; only a finished run can be repeated to its end")
        if any(metric == DONOR for _, metric in before.values):
            raise ValueError(f"run {before.run} took over weights of other trials of its search, so no job repeats it")
        spec = _spec(client, run_id, before)
        digest, there = spec.data.open().digest, before.tags.get("dataset.digest")
        if there != digest:
            raise ValueError(
                f"the data are not what {before.run} was trained on: their digest was {there}, and is {digest}; "
                "bring back the images as they were, or train anew"
            )
        return cls(run_id, before, spec)

    def run(
        self,
        show: Callable[[State], None] = lambda state: None,
        tell: Callable[[str, bool], None] = lambda text, lasting: None,
        verbose: bool = False,
    ) -> Verdict:
        """Train, and compare; arguments as :func:`orchestrator.execution.launch.train` takes them.

        Raises:
            RuntimeError: the repetition did not come to its end, or is not in MLflow.
        """
        result = launch.train(self.spec, None, show, tell, verbose, tags={VERIFIES: self.run_id})
        if result.status != "FINISHED":
            raise RuntimeError(f"the repetition, run {result.run}, ended {result.status}: {result.ended_by}")
        if result.behind:
            raise RuntimeError(f"{result.behind} events of {result.run} are not in MLflow; run: orchestrator sync")
        return compare(self.before, held(*_locate(result.run)))


def compare(before: Held, again: Held) -> Verdict:
    """Hold the repetition of a run against it."""
    both = sorted(before.values.keys() & again.values.keys())
    first = None
    for epoch, metric in both:
        values = before.values[epoch, metric], again.values[epoch, metric]
        if values[0] != values[1] and any(value == value for value in values):  # NaN is itself here
            first = Difference(epoch, metric, *values)
            break
    names = [{metric for _, metric in each.values} for each in (before, again)]
    tags = sorted(tag for tag in {*before.tags, *again.tags} if tag.startswith(_MACHINE))
    machine = {tag: (before.tags.get(tag), again.tags.get(tag)) for tag in tags}
    differs = {tag: values for tag, values in machine.items() if values[0] != values[1]}
    return Verdict(before, again, len(both), first, tuple(sorted(names[0] ^ names[1])), differs)


def words(verdict: Verdict) -> list[str]:
    """The verdict, for people."""
    before, again, first = verdict.before, verdict.again, verdict.first
    lines = []
    if first is not None:
        lines.append(
            f"DIFFERENT at epoch {first.epoch}: {first.metric} was {first.before!r}, is {first.again!r} in {again.run}"
        )
    elif not verdict.equal:
        lines.append(f"DIFFERENT weights, though all {verdict.compared} values of {before.run} are the same")
    else:
        weights = f"and the weights (SHA-256 {str(again.weights)[:12]}) are" if before.weights else "are"
        lines.append(f"EQUAL, bit for bit: {verdict.compared} values {weights} those of {before.run}")
        if not before.weights:
            lines.append(f"it has no tag {WEIGHTS}, so its weights could not be compared")
    if verdict.unmatched:
        lines.append(f"recorded by one of the two only: {', '.join(verdict.unmatched)}")
    if not verdict.equal and not verdict.machine:
        lines.append("nothing that is known of the machine differs; on a GPU, only deterministic: true repeats bits")
    return lines


def held(client: MlflowClient, run_id: str) -> Held:
    """What MLflow holds of a run."""
    run = client.get_run(run_id)
    values: dict[tuple[int, str], float] = {}
    for metric in run.data.metrics:
        if not metric.startswith((*_CLOCKS, "best/")):  # the latter follow from other series
            for point in client.get_metric_history(run_id, metric):
                values.setdefault((point.step, metric), point.value)
    return Held(str(run.info.run_name), dict(run.data.tags), values)


def _locate(name: str) -> tuple[MlflowClient, str]:
    """A client of the MLflow that holds a run, and the run's id there.

    Raises:
        ValueError: there is no such run.
    """
    from mlflow.exceptions import MlflowException

    uri, run_id = redact(default_uri()), name
    try:
        uri, run_id = Shipper(store.find(name)).target
        if not run_id:
            raise ValueError(f"run {name} is not in MLflow yet; send it there: orchestrator sync")
        client = connect(uri, home() / "artifacts")
        client.get_run(run_id)
    except MlflowException as error:
        raise ValueError(f"MLflow at {uri} has no run {run_id}: {error}") from None
    except ValueError as unknown:
        if run_id != name:
            raise
        client = connect(uri, home() / "artifacts")
        try:
            client.get_run(name)
        except MlflowException:
            raise unknown from None
    return client, run_id


def _spec(client: MlflowClient, run_id: str, before: Held) -> JobSpec:
    """The job of a run, with what was chosen automatically as it was chosen then."""
    from mlflow.exceptions import MlflowException

    chosen = {field: before.tags.get(field) for field in ("precision", "channels_last", "compile")}
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(run_id, SPEC, folder)
        except (MlflowException, OSError) as error:
            raise ValueError(
                f"MLflow has no {SPEC} of run {before.run}, so nobody knows what it was: {error}"
            ) from None
        overrides = [f"{field}={value.lower()}" for field, value in chosen.items() if value is not None]
        return specfile.read(Path(path), JobSpec, overrides)

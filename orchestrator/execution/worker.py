"""The body of a worker: from what the driver handed over to the loop, and back."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from jobs.distillation import StoredTeacher
from jobs.report import CONTINUE, STOP, Progress, Record, Report, Verdict
from jobs.spec import JobSpec
from orchestrator.execution.answer import Answer
from orchestrator.execution.failures import kind_of
from orchestrator.home import run_folder, run_url

if TYPE_CHECKING:
    from ray import ObjectRef

    from jobs.checkpoint import State
    from jobs.data.sets import Data
    from jobs.place import Place
    from orchestrator.tracking.client import RecorderClient

WEIGHTS = "weights.sha256"
"""Tag of a finished run: SHA-256 of the file that holds its tensors."""
MEMORY_CURE = (
    "Raise accumulation (the same batch in smaller parts), or lower batch_size or evaluation.batch_size; "
    "orchestrator plan says how much memory a job takes"
)


class LogitSettings(TypedDict):
    """Arguments of ``jobs.logits.store.LogitCache``."""

    folder: str
    max_bytes: int


class Graft(TypedDict):
    """The checkpoint of another run: the one at the end of ``epoch``."""

    run: str
    epoch: int


@dataclass(frozen=True)
class Assignment:
    """A job as a worker gets it.

    Attributes:
        spec: the job (JSON).
        data: reference to its opened data.
        recorders: client of the recorder.
        run: name of the run.
        logits: see :func:`work`.
        graft: see :func:`work`.
        around: makes what rank 0's loop reports to, of the recorder's report and of a function that passes a message
            to whoever gave the job and returns whether it is to stop; None reports to the recorder alone.
    """

    spec: str
    data: ObjectRef[Data]
    recorders: RecorderClient
    run: str
    logits: LogitSettings | None = None
    graft: Graft | None = None
    around: Callable[[ToRecorder, Callable[[Any], bool]], Report] | None = None


class ToRecorder(Report):
    """Sends to the Recorder actor without ever waiting for it, and saves checkpoints.

    Args:
        recorders: client of the recorder.
        run: name of the run.
        url: fsspec URL of the run's checkpoints.
        keep: number of the newest that stay.
    """

    def __init__(self, recorders: RecorderClient, run: str, url: str, keep: int) -> None:
        from jobs.checkpoint import Store

        self.recorders, self.run, self.store = recorders, run, Store(url, keep)
        self._answer: ObjectRef[Verdict] | None = None
        self._verdict = CONTINUE

    def note(self, facts: Mapping[str, str]) -> None:
        """Send them as tags."""
        for key, value in facts.items():
            self.recorders.tag(self.run, key, value, wait=False)

    def progress(self, progress: Progress) -> Verdict:
        """Send it, unless the answer to an earlier one is still missing; return the newest verdict."""
        if self._answer is None:
            self._answer = self.recorders.progress(self.run, progress)
        return self._newest()

    def save(self, checkpoint: State) -> None:
        """Start to store it."""
        self.store.save(checkpoint)

    def record(self, records: Sequence[Record]) -> Verdict:
        """Send them; return the newest verdict."""
        if records:
            self.recorders.record(self.run, records)
        return self._newest()

    def _newest(self) -> Verdict:
        """The newest verdict that has come back."""
        import ray

        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            self._verdict = ray.get(self._answer)
            self._answer = None
        return STOP if self._verdict is STOP else CONTINUE

    def close(self) -> None:
        """Wait until every checkpoint is stored."""
        self.store.wait()


def train_one(job: Assignment, place: Place, say: Callable[[Any], bool]) -> Answer:
    """Train a job in this process, one of many perhaps, as if it were the first.

    Args:
        job: what to train.
        place: of this process among the job's workers; every one calls it alike.
        say: see ``job.around``.

    Returns:
        The answer, see :func:`work`.
    """
    import ray
    import torch

    spec = JobSpec.model_validate_json(job.spec)
    if blind := unreached(spec, job.run):
        return Answer(failure=blind, kind="data")
    report = ToRecorder(
        job.recorders, job.run, f"{run_url(job.run, spec.checkpoint.storage)}/checkpoints", spec.checkpoint.keep
    )
    gc.freeze()  # what is here before the job stays: searching it for garbage after each takes long
    try:
        around = job.around(report, say) if job.around is not None and place.rank == 0 else report
        return work(spec, place, report, around, ray.get(job.data), job.logits, job.graft)
    except OSError as error:  # with a disk that is full, every other try would end in the same way
        if place.distributed or kind_of(error) != "disk":
            raise
        return Answer.of(error, str(error))
    finally:
        report.close()
        gc.collect()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()


def unreached(spec: JobSpec, run: str) -> str | None:
    """What is wrong if this node, which may have joined after the run began, does not see what the run needs.

    Args:
        spec: the job; its teacher, if any, is a folder.
        run: its name.
    """
    needed = [] if spec.checkpoint.storage else [str(run_folder(run))]
    if spec.distillation is not None:
        assert isinstance(spec.distillation.teacher, StoredTeacher)
        needed.append(spec.distillation.teacher.path)
    missing = [path for path in needed if "://" not in path and not os.path.exists(path)]
    if not missing:
        return None
    return (
        f"{platform.node()} does not see {missing[0]}, which the run needs; set ORCHESTRATOR_HOME to a folder on a "
        "disk that all nodes share, or checkpoint.storage to one or to a bucket (s3://bucket/folder)"
    )


def work(
    spec: JobSpec,
    place: Place,
    recorder: ToRecorder,
    report: Report,
    data: Data,
    logits: LogitSettings | None = None,
    graft: Graft | None = None,
) -> Answer:
    """The body of a worker, in a group or in a trial of a search; every rank calls it alike.

    Args:
        spec: the job; its teacher and its pretrained weights, if any, are folders.
        place: where this process stands.
        recorder: of the run; the newest sound checkpoint is taken from its store.
        report: what the loop reports to: the recorder, or what stands around it.
        data: what is trained on.
        logits: where a teacher's logits are cached; None caches none.
        graft: the checkpoint to resume from in place of its own of that epoch, which must exist: the weights are the
            other run's, the records stay its own.

    Returns:
        The answer; with ``metrics`` and ``confusion`` on rank 0, if the run came to its end.
    """
    import torch

    from jobs.divergence import NonFiniteLossError
    from jobs.models.pretrained import materialize
    from jobs.outcome import keep_model
    from jobs.train import train

    data.here(spec.resizes)
    assets: dict[str, Any] = {"data": data}
    cache = None
    if spec.distillation is not None:  # the driver has made it a folder
        assets["teacher"] = spec.distillation.teacher.folder(data)
        if logits is not None:
            from jobs.logits.store import LogitCache

            cache = assets["logits"] = LogitCache(**logits)
    per_epoch, wrong = spec.steps(len(data.train)).per_epoch, list[str]()
    newest = recorder.store.newest(wrong.append) if place.rank == 0 else None
    if wrong:
        begin = f"resumes after epoch {newest.step / per_epoch:.4g}" if newest else "begins anew at epoch 1"
        recorder.recorders.warn(recorder.run, f"{'; '.join(wrong)}. So training {begin} of {spec.epochs}")
    if graft is not None and newest is not None:
        donor = run_url(graft["run"], spec.checkpoint.storage)
        newest = _grafted(newest, donor, per_epoch * graft["epoch"])
    start = place.broadcast(newest)
    if start is None and spec.model.pretrained is not None:  # a folder too
        assets["pretrained"] = materialize(spec.model.pretrained, spec.model)
    if start is not None and place.rank == 0:
        report.record([Record(*record) for record in start.tree["records"]])  # the recorder may have missed these
    try:
        outcome = train(spec, place, report, assets, start)
    except (NonFiniteLossError, ValueError) as error:
        return Answer.of(error)
    except torch.OutOfMemoryError as error:
        if place.distributed:  # the others wait for this rank, so all have to be ended
            raise
        return Answer.of(error, f"{str(error).splitlines()[0]} {MEMORY_CURE}")
    finally:
        if cache is not None:
            cache.close()
    if cache is not None and cache.asked and place.rank == 0:
        recorder.recorders.tag(recorder.run, "logits_read", f"{cache.read / cache.asked:.0%}", wait=False)
    recorder.close()
    if outcome.diverged and place.rank == 0:
        recorder.recorders.warn(recorder.run, outcome.diverged)
    if place.rank == 0 and outcome.network is not None and outcome.test is not None:
        weights = keep_model(f"{run_url(recorder.run, spec.checkpoint.storage)}/model", outcome, data)
        recorder.recorders.tag(recorder.run, WEIGHTS, weights, wait=False)
        recorder.recorders.state(recorder.run)  # all records sent before have been taken in
        confusion = None if outcome.test.confusion is None else outcome.test.confusion.numpy()
        return Answer(outcome.ended_by, metrics=outcome.test.metrics("test"), confusion=confusion)
    return Answer(outcome.ended_by)


def _grafted(own: State, url: str, step: int) -> State:
    """The checkpoint to resume from: the other run's of that step (``url`` is its folder) with the records of ``own``,
    if ``own`` is of that step; else ``own``, which is further.
    """
    from jobs.checkpoint import State, Store

    if own.step > step:
        return own
    tree = Store(f"{url}/checkpoints").read(step).tree
    return State(step, {**tree, "records": own.tree["records"]})

"""One trial, inside the process that Tune gives it.

*Direct*, for one worker: the loop runs in Tune's actor, which the next trial reuses. *Nested*, for more: a TorchTrainer
of its own. Both run the one worker body (``orchestrator.execution.worker``) and report every epoch to Tune.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import ray
from ray import tune

from jobs.report import Progress, Record, Report, Verdict
from jobs.spec import JobSpec
from orchestrator.execution.answer import NO_ANSWER, Answer
from orchestrator.execution.failures import kind_of
from orchestrator.home import run_url
from tuning.run.line import Abandoned, Line, encode, epochs_of

if TYPE_CHECKING:
    from jobs.checkpoint import State
    from jobs.data.sets import Data
    from orchestrator.execution.worker import Graft, LogitSettings, ToRecorder
    from orchestrator.tracking.client import RecorderClient

_POLL_S = 0.2


@dataclass(frozen=True)
class Shared:
    """What all trials of a search get.

    Attributes:
        recorders: client of the recorder.
        data: reference to the opened data of the base job.
        data_spec: its spec (JSON).
        memory_share: of a GPU, where trials share one.
        parameters: whether the number of parameters is reported.
        logits: see ``orchestrator.execution.worker.work``.
        home: the driver's ORCHESTRATOR_HOME.
        settled: see :class:`ToTune`.
    """

    recorders: RecorderClient
    data: ray.ObjectRef[Data]
    data_spec: str
    memory_share: float
    parameters: bool
    logits: LogitSettings | None
    home: str
    settled: bool


class TrialConfig(TypedDict):
    """What one trial gets: its number, the name of its run, its job (JSON, with its teacher resolved to a folder), and
    the checkpoint of another trial where it resumes from one."""

    ordinal: int
    run: str
    spec: str
    graft: NotRequired[Graft]


class ToTune(Report):
    """Reports to the recorder, then to Tune.

    Args:
        inner: the report that goes to the recorder.
        line: to Tune.
        same: values that are the same in every epoch.
        settled: wait until a checkpoint is stored before its epoch is reported to Tune: another trial may resume from
            it.
    """

    def __init__(self, inner: ToRecorder, line: Line, same: Mapping[str, float], settled: bool = False) -> None:
        self.inner, self.line, self.same, self.settled = inner, line, same, settled
        self._seconds = 0.0

    def note(self, facts: Mapping[str, str]) -> None:
        """Pass them on."""
        self.inner.note(facts)
        self.line.check()

    def progress(self, progress: Progress) -> Verdict:
        """Pass it on."""
        verdict = self.inner.progress(progress)
        self.line.check()
        return verdict

    def save(self, checkpoint: State) -> None:
        """Pass it on."""
        self.inner.save(checkpoint)
        if self.settled:
            self.inner.close()
        self.line.check()

    def record(self, records: Sequence[Record]) -> Verdict:
        """Pass them on; report the epoch if it was evaluated."""
        verdict = self.inner.record(records)
        self.line.check()
        for epoch, values in epochs_of(records).items():
            self._seconds += values.get("epoch_s", 0.0)
            self.line.put(encode(epoch, {**values, **self.same, "seconds": self._seconds}))
        return verdict


class TrialActor(tune.Trainable):
    """What Tune runs: one trial after the other in one process."""

    _first: bool
    _line: Line
    _thread: threading.Thread

    def setup(self, config: TrialConfig, shared: Shared) -> None:  # type: ignore[override]
        """Begin the first trial."""
        os.environ["ORCHESTRATOR_HOME"] = shared.home
        self._shared = shared
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """The next epoch, or the end."""
        first, self._first = self._first, False
        return self._line.get(first)

    def reset_config(self, new_config: TrialConfig) -> bool:  # type: ignore[override]
        """Leave the trial and begin another."""
        self.cleanup()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Leave the trial."""
        self._line.abandon()
        self._thread.join()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: runs keep their own."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Nothing: runs resume from their own."""

    def _begin(self, config: TrialConfig) -> None:
        self._line, self._first = Line(), True
        self._thread = threading.Thread(target=_trial, args=(config, self._shared, self._line), daemon=True)
        self._thread.start()


def _trial(config: TrialConfig, shared: Shared, line: Line) -> None:
    try:
        spec = JobSpec.model_validate_json(config["spec"])
        mine = spec.data.model_dump_json() == shared.data_spec
        reference = shared.data if mine else ray.put(spec.data.open())
        same = {"parameters": _parameters(spec, reference)} if shared.parameters else {}
        if spec.resources.most > 1:
            answer = _nested(spec, config["run"], reference, shared, line, same)
        else:
            answer = _direct(spec, config["run"], reference, shared, line, same, config.get("graft"))
        line.put({"answer": replace(answer, confusion=None), "done": True}, last=True)
    except Abandoned:
        pass
    except BaseException as error:
        line.put(error, last=True)


def _parameters(spec: JobSpec, reference: ray.ObjectRef[Data]) -> float:
    """Numbers in the network's parameters."""
    from jobs.models.size import measure

    data = ray.get(reference)
    return float(measure(spec.model, len(data.classes), data.channels, data.size, 2, 4).parameters)


def _direct(
    spec: JobSpec,
    run: str,
    reference: ray.ObjectRef[Data],
    shared: Shared,
    line: Line,
    same: Mapping[str, float],
    graft: Graft | None,
) -> Answer:
    import torch

    from jobs.place import Place
    from orchestrator.execution.worker import ToRecorder, unreached, work

    if blind := unreached(spec, run):
        return Answer(failure=blind, kind="data")
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_worker)))
    place = Place.current(bool(spec.resources.use_gpu))
    if shared.memory_share < 1 and place.device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(shared.memory_share, place.device)
    url = f"{run_url(run, spec.checkpoint.storage)}/checkpoints"
    report = ToRecorder(shared.recorders, run, url, spec.checkpoint.keep)
    gc.freeze()  # what is here before the trial stays: searching it for garbage after each trial takes long
    try:
        to_tune = ToTune(report, line, same, shared.settled)
        return work(spec, place, report, to_tune, ray.get(reference), shared.logits, graft)
    except OSError as error:  # with a disk that is full, every other try would end in the same way
        if kind_of(error) != "disk":
            raise
        return Answer.of(error, str(error))
    finally:
        report.close()
        gc.collect()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()


def _nested(
    spec: JobSpec, run: str, reference: ray.ObjectRef[Data], shared: Shared, line: Line, same: Mapping[str, float]
) -> Answer:
    from orchestrator.execution.trainer import fit_with_train

    answers: list[Answer] = []

    def fit() -> None:
        answers.append(fit_with_train(spec, run, reference, shared.recorders, shared.logits))

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    seen, seconds, records = 0, 0.0, []
    reported: set[int] = set()
    try:
        while True:
            alive = thread.is_alive()
            state = shared.recorders.state(run, seen)
            seen = state.seen
            records += state.records
            for epoch, values in epochs_of(records).items():
                if epoch not in reported and "epoch_s" in values:
                    reported.add(epoch)
                    seconds += values["epoch_s"]
                    line.put(encode(epoch, {**values, **same, "seconds": seconds}))
            line.check()
            if not alive:
                return answers[0] if answers else NO_ANSWER
            time.sleep(_POLL_S)
    except Abandoned:
        shared.recorders.stop(run)
        thread.join()
        raise

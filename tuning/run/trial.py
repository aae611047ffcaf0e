"""One trial, by the process that Tune gives it, which the next trial reuses.

*Direct*, for one worker: the loop runs in that process. *Nested*, for more: in a group of Ray Train workers that the
process owns and keeps for the trials after it. Both run the one worker body (``orchestrator.execution.worker``) and
report every epoch to Tune, which the loop waits for.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import ray
from ray import tune

from jobs.spec import JobSpec
from orchestrator.execution.answer import Answer
from orchestrator.execution.group import Groups
from orchestrator.execution.trainer import fit_with_train
from orchestrator.execution.worker import Assignment, train_one
from tuning.run.line import Abandoned, Line, ToTune

if TYPE_CHECKING:
    from jobs.data.sets import Data
    from orchestrator.execution.worker import Graft, LogitSettings
    from orchestrator.tracking.client import RecorderClient


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


class TrialActor(tune.Trainable):
    """What Tune runs: one trial after the other in one process."""

    _first: bool
    _groups: Groups
    _line: Line
    _thread: threading.Thread

    def setup(self, config: TrialConfig, shared: Shared) -> None:  # type: ignore[override]
        """Begin the first trial."""
        os.environ["ORCHESTRATOR_HOME"] = shared.home
        self._shared, self._groups = shared, Groups(lasting=True)
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """The next epoch, or the end."""
        first, self._first = self._first, False
        return self._line.get(first)

    def reset_config(self, new_config: TrialConfig) -> bool:  # type: ignore[override]
        """Leave the trial and begin another."""
        self._leave()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Leave the trial, and end the workers."""
        self._leave()
        self._groups.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: runs keep their own."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Nothing: runs resume from their own."""

    def _begin(self, config: TrialConfig) -> None:
        self._line, self._first = Line(), True
        given = config, self._shared, self._line, self._groups
        self._thread = threading.Thread(target=_trial, args=given, daemon=True)
        self._thread.start()

    def _leave(self) -> None:
        self._line.abandon()
        self._thread.join()


def _trial(config: TrialConfig, shared: Shared, line: Line, groups: Groups) -> None:
    try:
        spec = JobSpec.model_validate_json(config["spec"])
        mine = spec.data.model_dump_json() == shared.data_spec
        reference = shared.data if mine else ray.put(spec.data.open())
        same = {"parameters": _parameters(spec, reference)} if shared.parameters else {}
        direct = spec.resources.most == 1
        job = Assignment(
            config["spec"],
            reference,
            shared.recorders,
            config["run"],
            shared.logits,
            config.get("graft"),
            partial(ToTune, same=same, settled=shared.settled, check=line.check if direct else None),
        )
        answer = _direct(spec, job, shared, line) if direct else _nested(spec, job, groups, line)
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


def _direct(spec: JobSpec, job: Assignment, shared: Shared, line: Line) -> Answer:
    import torch

    from jobs.place import Place

    torch.set_num_threads(spec.resources.threads)
    place = Place.current(bool(spec.resources.use_gpu))
    if shared.memory_share < 1 and place.device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(shared.memory_share, place.device)
    return train_one(job, place, line.put)


def _nested(spec: JobSpec, job: Assignment, groups: Groups, line: Line) -> Answer:
    def hear(result: dict[str, Any]) -> bool:
        with contextlib.suppress(Abandoned):
            line.put(result)
        return line.abandoned

    answer = fit_with_train(spec, job, groups, listener=hear, stopped=lambda: line.abandoned)
    line.check()
    return answer

"""One trial, inside the process that Tune gives it.

*Direct*, for one worker: the loop runs in Tune's actor, which the next trial reuses. *Nested*, for more: a TorchTrainer
of its own. Both run the one worker body (``orchestrator.execution.worker``) and report every epoch to Tune.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray import tune

from jobs.report import Progress, Record, Verdict
from jobs.spec import JobSpec
from orchestrator.execution.answer import NO_ANSWER, Answer
from orchestrator.home import run_url
from tuning.run.history import jsonable

_POLL_S = 0.2


class Abandoned(SystemExit):
    """Raised out of a report when Tune has no more use for the trial."""


class Line:
    """Between the loop, in a thread of its own, and Tune's ``step``: one word at a time.

    The loop waits for the next step, so that a trial that is stopped has computed nothing beyond the epoch that
    stopped it.
    """

    def __init__(self) -> None:
        self.abandoned = False
        self._words: queue.Queue[dict[str, Any]] = queue.Queue()
        self._steps = threading.Semaphore(0)

    def say(self, word: dict[str, Any], last: bool = False) -> None:
        """From the loop: hand over a result, and wait until it may go on."""
        self._words.put(word)
        if not last:
            self._steps.acquire()
        self.check()

    def check(self) -> None:
        """From the loop: leave it if nobody wants the trial any more."""
        if self.abandoned:
            raise Abandoned

    def hear(self, first: bool) -> dict[str, Any]:
        """From Tune: let the loop go on, and wait for its next word."""
        if not first:
            self._steps.release()
        return self._words.get()

    def abandon(self) -> None:
        """From Tune: make the loop leave at its next report."""
        self.abandoned = True
        self._steps.release()


class ToTune:
    """Tells the recorder, then Tune.

    Args:
        inner: the report that goes to the recorder.
        line: to Tune.
        same: values that are the same in every epoch.
        settled: wait until a checkpoint is stored before telling Tune of its epoch: another trial may go on from it.
    """

    def __init__(self, inner: Any, line: Line, same: Mapping[str, float], settled: bool = False) -> None:
        self.inner, self.line, self.same, self.settled = inner, line, same, settled
        self._seconds = 0.0

    def __call__(
        self,
        records: Sequence[Record] = (),
        checkpoint: Any = None,
        progress: Progress | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Pass it on; report the epoch if these are its records."""
        verdict: Verdict = self.inner(records, checkpoint, progress, facts)
        if self.settled and checkpoint is not None:
            self.inner.close()
        self.line.check()
        for epoch, values in epochs_of(records).items():
            self._seconds += values.get("epoch_s", 0.0)
            self.line.say(word(epoch, {**values, **self.same, "seconds": self._seconds}))
        return verdict


class TrialActor(tune.Trainable):
    """What Tune runs: one trial after the other in one process.

    Its config: ``ordinal``, ``run``, ``spec`` (JSON, with its teacher resolved to a folder), and ``graft`` where it
    goes on from another trial's weights (see ``orchestrator.execution.worker.work``). ``shared``, the same for all
    trials: ``recorders`` (the client), ``data`` (a reference to the base job's, opened), ``data_spec`` (its JSON),
    ``memory_share`` (of a GPU, where trials share one), ``parameters`` (whether they are wanted), ``logits`` (see
    ``orchestrator.execution.worker.work``), ``home`` (the driver's ORCHESTRATOR_HOME), ``settled`` (see
    :class:`ToTune`).
    """

    def setup(self, config: dict[str, Any], shared: dict[str, Any]) -> None:  # type: ignore[override]
        """Begin the first trial."""
        os.environ["ORCHESTRATOR_HOME"] = shared["home"]
        self._shared = shared
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """The next epoch, or the end."""
        heard = self._line.hear(self._first)
        self._first = False
        if "error" in heard:
            raise heard["error"]
        return heard

    def reset_config(self, new_config: dict[str, Any]) -> bool:
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

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: runs go on from their own."""

    def _begin(self, config: dict[str, Any]) -> None:
        self._line, self._first = Line(), True
        self._thread = threading.Thread(target=_trial, args=(config, self._shared, self._line), daemon=True)
        self._thread.start()


def epochs_of(records: Sequence[Record]) -> dict[int, dict[str, float]]:
    """The values of each epoch that was evaluated: epoch -> metric -> value."""
    epochs: dict[int, dict[str, float]] = {}
    for record in records:
        if not record.name.startswith(("test/", "system/")):
            epochs.setdefault(record.step, {})[record.name] = record.value
    return {epoch: values for epoch, values in sorted(epochs.items()) if "val/loss" in values}


def word(epoch: int, values: Mapping[str, float]) -> dict[str, Any]:
    """An epoch, as Tune takes it."""
    return {"epoch": epoch, "values": json.dumps(jsonable(values))}


def decode(text: str) -> dict[str, Any]:
    """What a trial said through Tune, which takes no mappings."""
    return dict(json.loads(text))


def _trial(config: dict[str, Any], shared: dict[str, Any], line: Line) -> None:
    try:
        spec = JobSpec.model_validate_json(config["spec"])
        mine = spec.data.model_dump_json() == shared["data_spec"]
        reference = shared["data"][0] if mine else ray.put(spec.data.open())
        same = {"parameters": _parameters(spec, reference)} if shared["parameters"] else {}
        if spec.resources.most > 1:
            answer = _nested(spec, config["run"], reference, shared, line, same)
        else:
            answer = _direct(spec, config["run"], reference, shared, line, same, config.get("graft"))
        line.say({"answer": replace(answer, confusion=None), "done": True}, last=True)
    except Abandoned:
        pass
    except BaseException as error:
        line.say({"error": error}, last=True)


def _parameters(spec: JobSpec, reference: Any) -> float:
    """Numbers in the network's parameters."""
    from jobs.models.size import measure

    data = ray.get(reference)
    return float(measure(spec.model, len(data.classes), data.channels, data.size, 1, 4).parameters)


def _direct(
    spec: JobSpec,
    run: str,
    reference: Any,
    shared: dict[str, Any],
    line: Line,
    same: Mapping[str, float],
    graft: Mapping[str, Any] | None,
) -> Answer:
    import torch

    from jobs.place import Place
    from orchestrator.execution.worker import ToRecorder, unreached, work

    if blind := unreached(spec, run):
        return Answer(failure=blind)
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_worker)))
    place = Place.current(bool(spec.resources.use_gpu))
    if shared["memory_share"] < 1 and place.device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(shared["memory_share"], place.device)
    url = f"{run_url(run, spec.checkpoint.storage)}/checkpoints"
    report = ToRecorder(shared["recorders"], run, url, spec.checkpoint.keep)
    gc.freeze()  # what is here before the trial stays: looking through it for garbage after each trial takes long
    try:
        told = ToTune(report, line, same, shared["settled"])
        return work(spec, place, report, told, ray.get(reference), shared["logits"], graft)
    finally:
        report.close()
        gc.collect()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()


def _nested(
    spec: JobSpec, run: str, reference: Any, shared: dict[str, Any], line: Line, same: Mapping[str, float]
) -> Answer:
    from orchestrator.execution.trainer import fit_with_train

    recorders = shared["recorders"]
    answers: list[Answer] = []

    def fit() -> None:
        answers.append(fit_with_train(spec, run, reference, recorders, shared["logits"]))

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    seen, seconds, records = 0, 0.0, []
    told: set[int] = set()
    try:
        while True:
            alive = thread.is_alive()
            state = recorders.state(run, seen)
            seen = state.seen
            records += state.records
            for epoch, values in epochs_of(records).items():
                if epoch not in told and "epoch_s" in values:
                    told.add(epoch)
                    seconds += values["epoch_s"]
                    line.say(word(epoch, {**values, **same, "seconds": seconds}))
            line.check()
            if not alive:
                return answers[0] if answers else NO_ANSWER
            time.sleep(_POLL_S)
    except Abandoned:
        recorders.stop(run)
        thread.join()
        raise

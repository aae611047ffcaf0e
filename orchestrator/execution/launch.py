"""A job on Ray: opens the data, starts the workers, owns the run's birth and death."""

from __future__ import annotations

import importlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobs import specfile
from jobs.data.progress import in_words, shown
from jobs.lock import Locked
from jobs.remarks import remarks
from jobs.spec import JobSpec
from orchestrator.execution import compiling, nodes, teacher
from orchestrator.execution.ahead import Ahead
from orchestrator.execution.answer import INTERRUPTED_TWICE, NO_ANSWER, Answer
from orchestrator.execution.failures import Kind, kind_of
from orchestrator.execution.group import Groups
from orchestrator.execution.interrupts import current, orderly
from orchestrator.execution.plan import loading
from orchestrator.execution.session import start_ray
from orchestrator.execution.trainer import fit_with_train
from orchestrator.execution.worker import Assignment
from orchestrator.home import home, run_folder
from orchestrator.prepare import prepare
from orchestrator.runs import resume as resuming
from orchestrator.runs import storage
from orchestrator.runs.images import settle
from orchestrator.runs.origin import environment, of_data, revision, submission
from orchestrator.tracking.client import RecorderClient
from orchestrator.tracking.recorders import Recorders
from orchestrator.tracking.state import State, Status

if TYPE_CHECKING:
    from ray import ObjectRef

    from jobs.data.sets import Data

POLL_S = 0.5


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        run: its name.
        status: FINISHED, FAILED or KILLED.
        ended_by: ``epochs``, ``early_stopping``, ``budget``, ``diverged``, ``stopped``, or the first cause of a
            failure.
        metrics: ``test/...``, empty unless FINISHED.
        kind: of the failure.
        behind: journal events that the tracking server does not have yet.
    """

    run: str
    status: Status
    ended_by: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    behind: int = 0
    kind: Kind | None = None


def start_recorders() -> RecorderClient:
    """The one writer: an actor on the driver's node, with the driver's settings of the tracking server and of stores.

    They are passed as arguments, which Ray's tables do not show; a runtime environment they would.
    """
    import ray

    names = ("ORCHESTRATOR_HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    kinds = ("MLFLOW_", "AWS_", "GOOGLE_", "AZURE_", "FSSPEC_")
    known = {name: value for name, value in os.environ.items() if name in names or name.startswith(kinds)}
    known["ORCHESTRATOR_HOME"] = str(home())
    known["MLFLOW_TRACKING_URI"] = os.environ.get("MLFLOW_TRACKING_URI", "")  # a notebook may have unset it
    here = nodes.on_this_node()
    actor = ray.remote(Recorders).options(num_cpus=0, max_concurrency=1, scheduling_strategy=here)
    return RecorderClient(actor.remote(known))


@orderly()
def train(
    spec: JobSpec,
    resume: str | None = None,
    show: Callable[[State], None] = lambda state: None,
    tell: Callable[[str, bool], None] = lambda text, lasting: None,
    verbose: bool = False,
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
    name: str | None = None,
    groups: Groups | None = None,
) -> Result:
    """Run a job to its end and track it.

    Args:
        spec: the job.
        resume: name of the run to resume, from its newest sound checkpoint; see :mod:`orchestrator.runs.resume`.
        show: called several times a second with what a display needs.
        tell: called with what is being done before and after the training, and whether it is worth keeping.
        verbose: let Ray talk.
        parent: name of the search that the run belongs under.
        tags: of the run in MLflow, besides those that every run has.
        name: of the new run; None takes the job's and the time.
        groups: workers at hand; None starts some and ends them with the run.

    Raises:
        ValueError: the data or the cluster do not fit the spec, or the spec not the run; nothing was started.
        Locked: another process started or resumed the run meanwhile.
    """
    name = resume or name or f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    ahead = Ahead(spec, name, groups, lambda: _start(verbose))
    try:
        return _train(ahead, spec, name, resume, show, tell, parent, tags or {})
    finally:
        ahead.end()


def _start(verbose: bool) -> RecorderClient:
    start_ray(verbose, verbose, lambda: importlib.import_module("orchestrator.execution.controller"))
    return start_recorders()


def _train(
    ahead: Ahead,
    spec: JobSpec,
    name: str,
    resume: str | None,
    show: Callable[[State], None],
    tell: Callable[[str, bool], None],
    parent: str | None,
    tags: Mapping[str, str],
) -> Result:
    tell("opening the data", False)
    progress = in_words(lambda text: tell(text, False), 1)
    with shown(progress):
        prepared = prepare(spec, ahead.cluster(), resume, trains=True)
    prepared.check_fit()
    changed = resuming.changes(resume, prepared.spec) if resume else {}
    folder = run_folder(name)
    beyond = remarks(prepared.ready, prepared.needs.steps, prepared.data.size)
    known = [prepared.fit.remark, loading(prepared), prepared.deleted]
    for note in [*prepared.data.notes, settle(folder, prepared.data), *beyond, *known]:
        if note:
            tell(note, True)
    with shown(progress):
        prepared.fetch()
    tell("starting Ray", False)
    recorders = ahead.recorders()
    import ray

    reference = ray.put(prepared.data)
    prepared = prepared.with_data(ray.get(reference))  # the store's copy, so that this process holds none of its own
    data = prepared.data
    ready = compiling.decide(prepared.ready, reference, 1, 1, tell)
    spec = prepared.spec.model_copy(update={"compile": ready.compile})  # kept: a resumed run does not decide anew
    resolved = teacher.resolve(ready, data, lambda job: teach(job, show, tell, groups=ahead.groups))
    if resume is None and (standing := resuming.begun(name)):
        raise Locked(
            f"run {name} was started by another process meanwhile and is {standing}; nothing was changed in it"
        )
    current().held = True  # from here on there is a run to be closed
    tags = {**of_data(data), **revision(), **environment(), **tags}
    tracking = spec.tracking
    earlier = recorders.begin(name, tracking.experiment, tracking.uri, spec.flatten(), tags, parent)
    for key, value in submission().items():  # of a resumed run, the newest
        recorders.tag(name, key, value)
    (folder / resuming.SPEC).write_text(specfile.dump(spec), encoding="utf-8")
    recorders.artifact(name, folder / resuming.SPEC)
    epochs = max((record.step for record in earlier.records if record.name == "train/loss"), default=0)
    tell(f"run {name}" + (f" is resumed; {epochs} of {spec.epochs} epochs are recorded" if resume else ""), True)
    if changed:
        text = ", ".join(f"{field}: {was!r} -> {now!r}" for field, (was, now) in changed.items())
        recorders.tag(name, "resumed_with", text)
        tell(f"changed {text}", True)
    tell("starting the workers", False)
    answer = _fit(storage.shared(resolved), name, reference, recorders, ahead.groups, show, tell, earlier.seen)
    tell("closing the run, sending the rest to MLflow", False)
    ahead.dismiss()
    status = answer.status
    try:
        recorders.tag(name, "cause" if status == "FAILED" else "ended_by", answer.cause)
    except OSError as error:
        if kind_of(error) != "disk":
            raise
        tell("the disk is full: nothing more is written of this run, not even how it ended", True)
        return Result(name, status, answer.cause, answer.metrics, 0, answer.kind)
    if status == "FINISHED":
        from orchestrator.runs import figures, fonts

        records = recorders.state(name).records
        try:
            figures.write(folder, records, answer.confusion, data.classes)
            for note in fonts.lettering(tuple(data.classes)).notes:
                tell(note, True)
        except Exception as error:  # what was found counts for more than how it looks
            tell(f"the figures could not be drawn: {error!r}", True)
        try:
            storage.model(name)
        except ValueError as error:  # it can be fetched later
            tell(str(error), True)
        parts = [part for part in ("figures", "model") if (folder / part).exists()]
        for part in parts:
            recorders.artifact(name, folder / part, part)
    recorders.end(name, status)
    hurry = answer.ended_by == INTERRUPTED_TWICE or answer.kind == "disk"  # where MLflow's database may be too
    behind = recorders.close(3.0 if hurry else 10.0 if status == "KILLED" else 30.0)
    return Result(name, status, answer.cause, answer.metrics, behind, answer.kind)


def teach(
    spec: JobSpec,
    show: Callable[[State], None],
    tell: Callable[[str, bool], None],
    parent: str | None = None,
    groups: Groups | None = None,
) -> str:
    """Train a teacher; the name of its run.

    Raises:
        ValueError: it did not come to its end.
        KeyboardInterrupt: it was interrupted.
    """
    tell(f"training the teacher first: {spec.name}", True)
    signals = current()
    held = signals.held
    result = train(spec, None, show, tell, parent=parent, groups=groups)
    signals.held = held
    if result.status == "KILLED":
        raise KeyboardInterrupt
    if result.status != "FINISHED":
        raise ValueError(
            f"the teacher's run {result.run} ended {result.status} ({result.ended_by}), so nothing can learn of it"
        )
    return result.run


def _fit(
    spec: JobSpec,
    name: str,
    data: ObjectRef[Data],
    recorders: RecorderClient,
    groups: Groups,
    show: Callable[[State], None],
    tell: Callable[[str, bool], None],
    seen: int,
) -> Answer:
    """Ray Train in a thread of its own, while this one shows progress and looks for signals; rank 0's answer."""
    answers: list[Answer] = []
    job = Assignment(spec.model_dump_json(), data, recorders, name)

    def fit() -> None:
        answers.append(fit_with_train(spec, job, groups, tell))

    thread, signals, stopped, warned = threading.Thread(target=fit, daemon=True), current(), False, 0
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        if signals.came and not stopped:
            recorders.stop()
            stopped = True
        if signals.twice:
            return Answer(INTERRUPTED_TWICE)
        state = recorders.state(name, seen)
        seen = state.seen
        show(state)
        for _, text in recorders.warnings(warned):
            warned += 1
            tell(text, True)
    return answers[0] if answers else NO_ANSWER

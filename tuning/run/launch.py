"""A search from its spec to its end, and on from where it was stopped."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs import specfile
from jobs.data.progress import in_words, shown
from jobs.lock import Locked
from jobs.paths import absolute
from jobs.spec import JobSpec
from orchestrator.execution import compiling, nodes, teacher
from orchestrator.execution import launch as jobs_launch
from orchestrator.execution.capacity import Cluster
from orchestrator.execution.interrupts import current, orderly
from orchestrator.execution.pretrained import Resolver
from orchestrator.execution.session import expect, start_ray
from orchestrator.home import home, run_folder
from orchestrator.runs.images import settle
from orchestrator.runs.origin import environment, of_data, revision, submission
from orchestrator.tracking.client import RecorderClient
from orchestrator.tracking.state import Status
from tuning.run.driver import Driver
from tuning.run.finals import Finals
from tuning.run.history import Earlier, History
from tuning.run.named import find, new_name
from tuning.run.plan import expected_trials, notes
from tuning.run.prepare import prepare
from tuning.run.results import Role, Trial, jsonable, ranked
from tuning.spec.check import check, check_data, students
from tuning.spec.search import SearchSpec
from tuning.spec.space import same

if TYPE_CHECKING:
    from ray import ObjectRef

    from jobs.data.sets import Data
    from orchestrator.execution.worker import LogitSettings

log = logging.getLogger(__name__)

_HURRY_S = 3.0
"""What MLflow gets where nobody wants to wait; ``orchestrator sync`` sends the rest."""


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        name: its name.
        status: FINISHED, KILLED if it was interrupted, FAILED if it gave up since trials failed alike.
        why: it is over.
        ranked: its trials with a value, the best first.
        trials: all of them.
        last: role (``winner``, ``base``) -> the run of the job's own length that ended the search; empty if none did.
        behind: journal events that the tracking server does not have yet.
        report: its HTML file; None if it was interrupted or could not be drawn.
    """

    name: str
    status: Status
    why: str
    ranked: list[Trial]
    trials: list[Trial]
    last: dict[Role, Trial]
    behind: int
    report: Path | None = None


@orderly()
def search(
    spec: SearchSpec | None,
    resume: str | None = None,
    retry: bool = False,
    show: Callable[[Driver], None] = lambda driver: None,
    tell: Callable[[str, bool], None] = lambda text, lasting: None,
    verbose: bool = False,
    as_named: bool = False,
) -> Outcome:
    """Run a search to its end, or resume one.

    Args:
        spec: the search; None with ``resume``.
        resume: name of the search to resume.
        retry: forget the failures of its failed trials and run them again.
        show: called several times a second.
        tell: called with what is being done, and whether it is worth keeping.
        verbose: let Ray talk.
        as_named: a new search is called as its spec says, not by the first of name-2, name-3, ... that is free.

    Raises:
        ValueError: spec, data and cluster do not fit together; nothing was started.
    """
    if spec is not None:
        for remark in check(spec):
            tell(remark, True)
        best, known = earlier(spec)
        spec = spec.absolute()
        spec = spec if as_named else spec.model_copy(update={"name": new_name(spec.name)})
        folder = run_folder(spec.name)
    else:
        folder = find(resume or "")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        history = History(folder)
    except Locked as error:
        raise ValueError(f"search {folder.name} is running already: {error}") from None
    try:
        if spec is not None:
            whole = absolute(spec.whole())
            found = {"best": best, "known": [(params, jsonable(values)) for params, values in known]}
            given = {"earlier": found} if spec.start_from.search else {}
            history.add("search", spec=spec.model_dump(mode="json"), base=whole.model_dump(mode="json"), **given)
        spec = history.spec
        assert spec is not None
        if retry:
            for trial in [*history.trials.values(), *history.last.values()]:
                if trial.status == "FAILED" and not trial.donors:  # the weights that it took over are gone
                    history.add("retry", ordinal=trial.ordinal)
        history.add("open")
        return _search(spec, history, folder, show, tell, verbose)
    except (KeyboardInterrupt, OSError):  # before its first trial, or since its journal could not be written
        tell(f"resume   orchestrator search resume {folder.name}", True)
        raise
    finally:
        history.close()


def _search(
    spec: SearchSpec,
    history: History,
    folder: Path,
    show: Callable[[Driver], None],
    tell: Callable[[str, bool], None],
    verbose: bool,
) -> Outcome:
    expect()
    tell("opening the data", False)
    progress = in_words(lambda text: tell(text, False), 1)
    with shown(progress):
        prepared = prepare(spec, Cluster.at_hand(), trains=True)
    if prepared.problem is not None:
        raise ValueError(prepared.problem)
    job = prepared.job
    if not history.trials:
        check_data(spec, len(job.data.train))
    for note in [*job.data.notes, settle(folder, job.data), *notes(prepared), job.fit.remark, job.deleted]:
        if note:
            tell(note, True)
    with shown(progress):
        prepared.job.fetch()
    base, weights = prepared.base, Resolver()
    places, why = max(1, prepared.trials.count), prepared.trials.why  # one at least, once the autoscaler has made room
    tell("starting Ray", False)
    start_ray(verbose, dashboard=verbose or base.resources.most > 1)
    import ray

    from tuning.run.trial import Shared
    from tuning.run.tune import watched

    reference = ray.put(prepared.job.data)
    del prepared, job
    data = ray.get(reference)  # the store's copy, so that this process holds none of its own
    base = _compiled(base, reference, spec, history, places, tell)
    if base.resources.most == 1 and spec.gpus_per_trial is None:  # Tune itself waits without end
        try:
            nodes.room(base.resources, [1], lambda: False, tell)
        except TimeoutError as error:
            raise ConnectionError(str(error)) from None
    recorders = jobs_launch.start_recorders()
    asked = {"arms": spec.arms.kind} if spec.arms else {}
    tags = {**of_data(data), **revision(), **environment()}
    (folder / "search.yaml").write_text(specfile.dump(spec), encoding="utf-8")
    recorders.begin(
        spec.name, base.tracking.experiment, base.tracking.uri, spec.flatten(), {**tags, "kind": "search", **asked}
    )
    for key, value in submission().items():
        recorders.tag(spec.name, key, value)
    recorders.artifact(spec.name, folder / "search.yaml")
    resolved: dict[str, JobSpec] = {}

    def taught(job: JobSpec) -> JobSpec:
        job = weights(job)
        if job.distillation is None:
            return job
        key = job.distillation.teacher.model_dump_json()
        if key not in resolved:
            resolved[key] = teacher.resolve(
                job, data, lambda other: jobs_launch.teach(other, lambda state: None, tell, spec.name)
            )
        known = resolved[key].distillation
        assert known is not None
        changed = job.distillation.model_copy(update={"teacher": known.teacher})
        return job.model_copy(update={"distillation": changed})

    try:
        taught(base)
        for student in students(spec):  # in between, they would wait for the CPUs of trials that wait for them
            try:
                taught(student)
            except ValueError as error:
                tell(f"a trial will fail: {error}", True)
    except (KeyboardInterrupt, ValueError) as error:
        recorders.end(spec.name, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        recorders.close(_HURRY_S)
        raise
    signals = current()
    signals.held = True
    first, known = history.earlier or earlier(spec)
    points = (*first, *(point for point in spec.start_from.points if not any(same(point, other) for other in first)))
    decided = {name: getattr(base, name) for name in ("data", "resources", "compile")}
    whole = spec.whole().model_copy(update=decided)
    finals = Finals(spec, base, whole, history, len(data.test), places)
    driver = Driver(spec, base, history, recorders, taught, tags, points, known, finals)
    tell(f"search {spec.name}: {places} trials at a time ({why})", True)
    if spec.start_from.search is not None:
        used = f"{driver.searcher.learned_from} of its {len(known)} finished trials"
        tell(f"from search {spec.start_from.search}: kind {spec.searcher.kind} learns from {used}", True)
    logits: LogitSettings = {"folder": str(home() / "cache" / "logits"), "max_bytes": spec.logit_cache_mb * 2**20}
    shared = Shared(
        recorders=recorders,
        data=reference,
        data_spec=base.data.model_dump_json(),
        memory_share=spec.gpus_per_trial or 1.0,
        parameters=any(goal.metric == "parameters" for goal in spec.goals),
        logits=logits if spec.logit_cache_mb else None,
        home=str(home()),
        settled=spec.scheduler.hands_over,
    )
    interrupted = watched(driver, shared, places, show, tell)
    driver.sweep(last=True)
    why = "interrupted" if interrupted else driver.closing or driver.ended
    status: Status = "KILLED" if interrupted else "FAILED" if driver.gave_up else "FINISHED"
    report = None
    driver.conclude()
    if not interrupted:
        history.add("close", why=why, gave_up=driver.gave_up)
        tell("drawing the report", False)
        report = _report(spec.name, folder, recorders)
    recorders.tag(spec.name, "ended_by", why)
    recorders.end(spec.name, status)
    behind = recorders.close(_HURRY_S if signals.twice else 30.0)
    recorders.kill()
    best = ranked(driver.trials, driver.goal)
    return Outcome(spec.name, status, why, best, driver.trials, history.last, behind, report)


def _compiled(
    base: JobSpec,
    data: ObjectRef[Data],
    spec: SearchSpec,
    history: History,
    places: int,
    tell: Callable[[str, bool], None],
) -> JobSpec:
    """The job with ``compile: auto`` decided, once in the life of a search."""
    if base.compile == "auto" and history.compile is None:
        trials = expected_trials(spec, base) or math.inf
        history.add("compile", compile=compiling.decide(base, data, places, trials, tell).compile)
    return base if base.compile != "auto" else base.model_copy(update={"compile": history.compile})


def _report(name: str, folder: Path, recorders: RecorderClient) -> Path | None:
    """Write the report, and put it with its figures and the leaderboard among the artifacts of the parent run."""
    from tuning.report import write

    try:
        parts = write.write(folder)
    except Exception as error:  # what was found counts for more than how it looks
        log.warning(
            "the report could not be drawn (%r); try: orchestrator search report %s", error, name, exc_info=True
        )
        return None
    for path, to in parts:
        recorders.artifact(name, path, to)
    names = [path.name for path, _ in parts if path.suffix == ".json"]
    tables = [{"path": table, "type": "table"} for table in names]
    recorders.tag(name, "mlflow.loggedArtifacts", json.dumps(tables))  # so that the UI shows a table
    return folder / write.REPORT


def earlier(spec: SearchSpec) -> Earlier:
    """What an earlier search found that this one starts from.

    Raises:
        ValueError: there is no such search.
    """
    if spec.start_from.search is None:
        return (), ()
    trials = History.look(find(spec.start_from.search)).trials.values()
    ended = [trial for trial in trials if trial.status == "FINISHED" and not trial.stopped_by]
    best = ranked(ended, spec.goals[0])[:1]
    return tuple(trial.params for trial in best), tuple((trial.params, trial.values) for trial in ended)

"""A job on Ray: opens the data, starts the workers, owns the run's birth and death."""

from __future__ import annotations

import os
import platform
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs import specfile
from jobs.spec import JobSpec
from orchestrator import resume as resuming
from orchestrator import teacher
from orchestrator.home import default_uri, home, run_folder
from orchestrator.tracking.recorder import Recorder, State, Status
from orchestrator.tracking.uri import check_uri, redact

ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}
"""What the driver sets before Ray starts: quick polls of the workers, and an allocator that keeps large blocks."""
POLL_S = 0.25
INTERRUPTED_TWICE = "interrupted twice"
"""``ended_by`` of a run whose workers were not waited for: they may still be running."""


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        run: its name.
        status: FINISHED, FAILED or KILLED.
        ended_by: ``epochs``, ``early_stopping``, ``budget``, ``stopped``, or the first cause of a failure.
        metrics: ``test/...``, empty unless FINISHED.
        behind: journal events that the tracking server does not have yet.
    """

    run: str
    status: Status
    ended_by: str
    metrics: dict[str, float] = field(default_factory=dict)
    behind: int = 0


def start_ray(verbose: bool = False) -> None:
    """Join the cluster of ``RAY_ADDRESS``, or start one on this machine with all its CPUs."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    level = "info" if verbose else "error"
    local: dict[str, Any] = {"address": "local", "num_cpus": os.cpu_count(), "include_dashboard": True}
    if os.environ.get("RAY_ADDRESS"):
        local = {}
    ray.init(log_to_driver=verbose, logging_level=level, **local)


def fit(spec: JobSpec) -> JobSpec:
    """The spec with ``use_gpu`` decided, if the cluster can hold it at all.

    Raises:
        ValueError: it never can; the arithmetic is in the message.
    """
    import ray

    total, need = ray.cluster_resources(), spec.resources
    cpus, gpus = total.get("CPU", 0), total.get("GPU", 0)
    wanted = need.workers * need.cpus_per_worker
    if wanted > cpus:
        raise ValueError(
            f"{need.workers} workers x {need.cpus_per_worker:g} CPUs = {wanted:g} CPUs, but "
            f"the cluster has {cpus:g}; lower resources.workers or resources.cpus_per_worker"
        )
    if need.use_gpu is True and need.workers > gpus:
        raise ValueError(
            f"{need.workers} workers x 1 GPU = {need.workers} GPUs, but the cluster has {gpus:g}; "
            "lower resources.workers or set resources.use_gpu: auto"
        )
    use_gpu = gpus >= need.workers if need.use_gpu == "auto" else need.use_gpu
    return spec.model_copy(update={"resources": need.model_copy(update={"use_gpu": use_gpu})})


class RunRecorder(Recorder):
    """The recorder as an actor: it also remembers what the workers of the run occupy, for when their controller dies.

    Ray means to free that itself, but cannot where two clusters run on one machine: it cannot tell in which one it is.
    """

    _group: Any = None

    def occupy(self, group: Any) -> None:
        """Remember the placement group of the workers that run now."""
        self._group = group

    def occupied(self) -> Any:
        """The placement group of the newest workers; None before the first."""
        return self._group


def train(
    spec: JobSpec,
    resume: str | None = None,
    show: Callable[[State], None] = lambda state: None,
    tell: Callable[[str, bool], None] = lambda text, lasting: None,
    verbose: bool = False,
) -> Result:
    """Run a job to its end and track it.

    Args:
        spec: the job.
        resume: name of the run to go on with, from its newest sound checkpoint; see :mod:`orchestrator.resume`.
        show: called several times a second with what a display needs.
        tell: called with what is being done before and after the training, and whether it is worth keeping.
        verbose: let Ray talk.

    Raises:
        ValueError: the data or the cluster do not fit the spec, or the spec not the run; nothing was started.
    """
    check_uri(spec.tracking.uri or redact(default_uri()))
    spec = spec.absolute()
    changed = resuming.changes(resume, spec) if resume else {}
    tell("opening the data", False)
    data = spec.data.open()
    tell("starting Ray", False)
    start_ray(verbose)
    import ray

    resolved = teacher.resolve(fit(spec), data, lambda job: _teacher(job, show, tell))
    name = resume or f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder = run_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    recorder = ray.remote(num_cpus=0, max_concurrency=1)(RunRecorder).remote(folder)
    tags = {"dataset.digest": data.digest, **_revision(), **_environment()}
    ray.get(recorder.begin.remote(name, spec.tracking.experiment, spec.tracking.uri, spec.flatten(), tags))
    (folder / resuming.SPEC).write_text(specfile.dump(spec), encoding="utf-8")
    ray.get(recorder.artifact.remote(folder / resuming.SPEC))
    earlier = ray.get(recorder.state.remote())
    epochs = max((record.step for record in earlier.records if record.name == "train/loss"), default=0)
    tell(f"run {name}" + (f" goes on; {epochs} of {spec.epochs} epochs are recorded" if resume else ""), True)
    if changed:
        text = ", ".join(f"{field}: {was!r} -> {now!r}" for field, (was, now) in changed.items())
        ray.get(recorder.tag.remote("resumed_with", text))
        tell(f"changed {text}", True)
    tell(f"starting {spec.resources.workers} workers", False)
    answer, interrupted = _fit(resolved, name, folder, ray.put(data), recorder, show, earlier.seen)
    tell("closing the run", False)
    status: Status = "FAILED"
    if answer.get("ended_by") == "stopped" or interrupted:
        status = "KILLED"
    elif "failure" not in answer:
        status = "FINISHED"
    cause = answer.get("failure") or answer.get("ended_by", "interrupted")
    ray.get(recorder.tag.remote("cause" if status == "FAILED" else "ended_by", cause))
    if status == "FINISHED":
        from orchestrator import figures

        records = ray.get(recorder.state.remote()).records
        figures.write(folder, records, answer["confusion"], data.classes)
        ray.get([recorder.artifact.remote(folder / part, part) for part in ("figures", "model")])
    ray.get(recorder.end.remote(status))
    behind = ray.get(recorder.close.remote(3.0 if interrupted else 30.0))
    return Result(name, status, cause, answer.get("metrics", {}), behind)


def _teacher(spec: JobSpec, show: Callable[[State], None], tell: Callable[[str, bool], None]) -> str:
    """Train the teacher; the name of its run."""
    tell(f"training the teacher first: {spec.name}", True)
    result = train(spec, None, show, tell)
    if result.status != "FINISHED":
        raise ValueError(
            f"the teacher's run {result.run} ended {result.status} ({result.ended_by}), so nothing can learn of it"
        )
    return result.run


def _fit(
    spec: JobSpec, name: str, folder: Path, data: Any, recorder: Any, show: Callable[[State], None], seen: int
) -> tuple[dict[str, Any], bool]:
    """Ray Train in a thread of its own, while this one shows progress and owns the signals.

    Returns rank 0's answer, and whether a second interrupt left the workers no time to give one.
    """
    import ray

    box: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: box.update(_trainer(spec, name, folder, data, recorder)), daemon=True)
    signals: list[int] = []
    handlers = {
        number: signal.signal(number, lambda n, _: signals.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        thread.start()
        told = False
        while thread.is_alive():
            thread.join(POLL_S)
            if signals and not told:
                ray.get(recorder.stop.remote())
                told = True
            if len(signals) > 1:
                return {"ended_by": INTERRUPTED_TWICE}, True
            state = ray.get(recorder.state.remote(seen))
            seen = state.seen
            show(state)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return box, False


def _trainer(spec: JobSpec, name: str, folder: Path, data: Any, recorder: Any) -> dict[str, Any]:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from orchestrator.worker import ray_train_worker

    need = spec.resources
    failures = 0
    while True:
        trainer = TorchTrainer(
            ray_train_worker,
            train_loop_config={
                "spec": spec.model_dump_json(),
                "data": [data],
                "recorder": recorder,
                "folder": folder.as_uri(),
            },
            torch_config=TorchConfig(backend="nccl" if need.use_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=need.workers,
                use_gpu=bool(need.use_gpu),
                resources_per_worker={"CPU": need.cpus_per_worker} | ({"GPU": 1} if need.use_gpu else {}),
            ),
            run_config=RunConfig(
                name=f"{name}-{secrets.token_hex(3)}",  # Ray silently continues a name it has seen
                storage_path=str(home() / "ray"),
                failure_config=FailureConfig(max_failures=need.max_failures, controller_failure_limit=3),
            ),
        )
        try:
            return trainer.fit().return_value or {}
        except ray.exceptions.RayActorError as error:  # the controller died; the checkpoints are ours, so go on
            failures += 1
            if failures > need.max_failures:
                return {"failure": f"the Ray Train controller died {failures} times: {error}"}
            group = ray.get(recorder.occupied.remote())
            if group is not None:
                ray.util.remove_placement_group(group)
        except Exception as error:
            return {"failure": _first_cause(error)}


def _first_cause(error: BaseException) -> str:
    """The failure of the lowest rank that tells what happened, in one line."""
    failures = getattr(error, "worker_failures", None) or {}
    for rank, failure in sorted(failures.items()):
        inner = getattr(failure, "cause", None) or failure
        return f"rank {rank}: {str(inner).strip().splitlines()[-1]}"
    error = getattr(error, "controller_failure", error)
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _revision() -> dict[str, str]:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent)
        return done.stdout.strip() if done.returncode == 0 else ""

    revision = git("rev-parse", "HEAD")
    return {"revision": revision, "revision.dirty": str(bool(git("status", "--porcelain")))} if revision else {}


def _environment() -> dict[str, str]:
    from importlib.metadata import version

    versions = {f"version.{name}": version(name) for name in ("torch", "torchvision", "timm", "ray")}
    return {"python": platform.python_version(), "host": platform.node(), **versions}

"""Ray's session: joining a cluster or starting one on this machine, and the environment of its processes."""

from __future__ import annotations

import logging
import os
import secrets
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jobs import allowed
from jobs.disk import FULL
from jobs.lock import holder
from orchestrator.cluster.client import make_token_private
from orchestrator.execution import forkserver, kept, tidy
from orchestrator.execution.interrupts import current

log = logging.getLogger(__name__)

ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""What the driver sets before Ray starts: workers are polled often, and the allocator keeps large blocks."""
OWN = "ORCHESTRATOR_CLUSTER"
"""Set in the processes of a cluster that has the environment of its driver."""
ALONE = {
    OWN: "own",
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}
"""What it sets in addition before it starts a cluster of its own, which is never preempted and ends with the driver.
Ray's metrics and events would cost the workers time, and nobody reads them there. RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER
makes Ray listen on loopback only, which is its default on other systems. The two ports would answer without a token:
with a number that is none, Ray notes in its own log that they could not be opened."""

START_S = 180.0
"""How long Ray may take to start, or to answer where there is a cluster; a busy machine needs half a minute."""
_TOKEN = secrets.token_hex(32)
"""Of this process's own cluster. It is passed in the environment, which no other user can read; Ray would write one to
``~/.ray/auth_token``, for all to read at first."""
_tokens = {_TOKEN}
_LOOK_S = 1.0
_LONGEST = 107
"""Bytes of the path of a socket, at most."""


def named() -> bool:
    """Whether ``RAY_ADDRESS`` names a cluster to join."""
    return os.environ.get("RAY_ADDRESS", "") not in ("", "local")


def running() -> bool:
    """Whether this process has a cluster already."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def joins() -> kept.Kept | None:
    """The cluster of ``orchestrator up``, where this process would join it."""
    found = None if os.environ.get("RAY_ADDRESS") else kept.find()
    return None if found is None or found.differs(ENVIRONMENT | ALONE | os.environ) else found


def expect() -> None:
    """Let what the workers need be imported already, if this process is about to start a cluster."""
    if not (named() or running() or joins()):
        _prepare(ENVIRONMENT | ALONE)
        forkserver.start(private_folder())


def start_ray(verbose: bool = False, dashboard: bool = True, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Join the cluster of ``RAY_ADDRESS`` or the one that ``orchestrator up`` keeps, or start one on this machine with
    all CPUs that this process may use; ``RAY_ADDRESS=local`` always starts one.

    Args:
        verbose: show Ray's own messages.
        dashboard: start Ray's dashboard. It costs the workers some time, but Ray needs it to clean up after a killed
            Ray Train controller, which a stopped nested trial leaves behind.
        meanwhile: called while Ray starts.

    Raises:
        ConnectionError: there is no such cluster, or Ray did not start.
    """
    elsewhere = named()
    _prepare(ENVIRONMENT if elsewhere else ENVIRONMENT | ALONE)
    import ray

    if ray.is_initialized():
        return
    if os.environ.get("RAY_AUTH_TOKEN") in _tokens:  # another cluster does not know it
        del os.environ["RAY_AUTH_TOKEN"]
    if elsewhere:
        _init(verbose, {}, meanwhile)
    elif not os.environ.get("RAY_ADDRESS") and _on_loopback() and (found := kept.join()) is not None:
        options = found.options()
        _tokens.add(found.token)
        os.environ["RAY_AUTH_TOKEN"] = found.token
        os.environ["RAY_AUTH_MODE"] = "token"
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")  # Ray has read it when it was imported
        try:
            _init(verbose, options, meanwhile)
        except ConnectionError as error:
            kept.leave()
            raise ConnectionError(
                f"{error}. It is the cluster of orchestrator up; if it does not answer again: orchestrator down --force"
            ) from error
        threading.Thread(target=_end_with, args=[found, kept.keeping()], name="kept", daemon=True).start()
    else:
        start_own(verbose, dashboard, meanwhile)
    make_token_private()


def _end_with(found: kept.Kept, lock: Path) -> None:
    """End this process where the cluster ends that it has joined: Ray does so too, after a minute in which the process
    waits for its GCS and takes a core."""
    import ray

    while (held := holder(lock)) is not None and held.startswith(f"pid {found.pid} "):
        time.sleep(_LOOK_S)
    if lock.exists() and ray.is_initialized() and ray.get_runtime_context().gcs_address == found.address:
        log.error(
            "the cluster of orchestrator up has ended, and this process with it: by orchestrator down --force, or "
            "since one of Ray's processes died. What its runs had is kept; see: orchestrator runs list"
        )
        os._exit(1)


def _prepare(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _on_loopback() -> bool:
    """Whether Ray takes 127.0.0.1 as it is; it would not where it was imported before :data:`ALONE` was set."""
    from ray._private import ray_constants

    return not ray_constants.ENABLE_RAY_CLUSTER


def start_own(
    verbose: bool = False,
    dashboard: bool = True,
    meanwhile: Callable[[], object] = lambda: None,
    cpus: int | None = None,
    lasting: bool = False,
) -> dict[str, str]:
    """Start a cluster on this machine, as :func:`start_ray` does; the environment that its processes get.

    Args:
        verbose: see :func:`start_ray`.
        dashboard: see :func:`start_ray`.
        meanwhile: see :func:`start_ray`.
        cpus: that it has; None is all that this process may use.
        lasting: it is for many commands.

    Raises:
        ConnectionError: Ray did not start.
    """
    _prepare(ENVIRONMENT | ALONE)
    if not (os.environ.get("RAY_AUTH_TOKEN_PATH") or os.environ.get("RAY_AUTH_MODE") == "disabled"):
        os.environ.setdefault("RAY_AUTH_TOKEN", _TOKEN)
    environment = dict(os.environ)
    tidy.sweep(private_folder())
    forkserver.start(private_folder(), lasting)
    here = {"address": "local", "num_cpus": cpus or allowed.cpus(), "_temp_dir": str(private_folder() / "ray")}
    _init(verbose, {**here, "include_dashboard": dashboard}, meanwhile)
    return environment


def _init(verbose: bool, options: Mapping[str, Any], meanwhile: Callable[[], object]) -> None:
    """``ray.init`` in a thread of its own, since it can wait, deaf to signals and without end, for a killed process.

    Raises:
        ConnectionError: Ray did not start, or not in time.
    """
    import ray

    errors: list[BaseException] = []
    done, never = threading.Event(), threading.Event()

    def init() -> None:
        try:
            level = logging.INFO if verbose else logging.ERROR
            ray.init(log_to_driver=verbose, logging_level=level, **options)
        except BaseException as error:
            errors.append(error)
        done.set()
        never.wait()  # Linux kills what a thread has started when the thread ends, as Ray asks it to

    with _changed(verbose, options.get("include_dashboard", True)) as started:
        threading.Thread(target=init, name="ray.init", daemon=True).start()
        meanwhile()
        in_time = done.wait(START_S)
    if in_time and not errors:
        current().renew()  # Ray puts a handler of its own before that of SIGTERM
        return
    for process in started:
        process.kill()
    forkserver.stop()
    cause = str(errors[0]).strip() if in_time else f"no answer within {START_S:g} s"
    where = options.get("address") or os.environ["RAY_ADDRESS"]
    raise ConnectionError(
        f"starting Ray ({where}) failed: {cause}. One of its processes was killed, or the machine is overloaded; see "
        "that there is memory left (free -h), and try again; --verbose shows what Ray says"
    ) from (errors[0] if in_time else None)


@contextmanager
def _changed(verbose: bool, dashboard: bool) -> Iterator[list[subprocess.Popen[bytes]]]:
    """What Ray starts meanwhile is started in another way; the processes.

    Each has a session of its own: what signals the group of this process (a closed terminal, ``timeout``, a scheduler)
    reaches this process alone, which has yet to end the run. The kernel still kills those processes when this one is
    gone. A raylet asks the fork server for workers. There is no autoscaler, which has nothing to start here, unless
    ``verbose`` no process that reads the workers' logs, and without ``dashboard`` nothing of it.
    """
    from ray._private import parameter, services

    started: list[subprocess.Popen[bytes]] = []
    popen, params = services.ConsolePopen, parameter.RayParams

    def start(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = popen(forkserver.asked(words), **options, start_new_session=True)
        started.append(process)
        return process

    with ExitStack() as stack:  # no setting of Ray does this
        stack.enter_context(_replaced(services, "ConsolePopen", start))
        fewer: Any = partial(params, no_monitor=True, include_log_monitor=verbose)  # type: ignore[arg-type]
        stack.enter_context(_replaced(parameter, "RayParams", fewer))
        if not dashboard:
            stack.enter_context(_replaced(services, "start_api_server", lambda *_, **__: ("", None)))
        yield started


@contextmanager
def _replaced(module: Any, name: str, value: object) -> Iterator[None]:
    plain = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, plain)


def private_folder() -> Path:
    """A short path that only this user can enter, for Ray's files: it opens its own folder to all users.

    Raises:
        ConnectionError: the temporary folder cannot be written to, or its name is too long.
    """
    folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / f"ray-{os.geteuid()}"
    cure = "set RAY_TMPDIR to a folder with a short name that you can write to"
    longer = len(os.fsencode(folder / f"ray/session_2026-11-28_03-16-52_219316_{os.getpid()}/sockets/plasma_store"))
    if longer > _LONGEST:
        many = f"{longer - _LONGEST} bytes too long for the names of Ray's sockets below it"
        raise ConnectionError(f"{folder.parent} is {many}; {cure}")
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        found = folder.lstat()
        private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
        if not private:  # another user may have made it
            return Path(tempfile.mkdtemp(prefix="ray-", dir=folder.parent))
    except OSError as error:
        if error.errno in FULL:
            raise
        raise ConnectionError(f"Ray's files cannot be put into {folder.parent}: {error.strerror}; {cure}") from error
    return folder

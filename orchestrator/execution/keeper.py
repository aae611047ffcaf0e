"""The process that keeps the cluster of ``orchestrator up``: starts Ray, and ends it once nobody has used it for long.

    python -m orchestrator.execution.keeper IDLE_S

Ray's processes are its children, and the kernel ends them with it. It says one line, ``ready`` or what went wrong.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import psutil

from jobs import allowed
from jobs.lock import Lock, Locked
from orchestrator.execution import alike, forkserver, kept, session, tidy

_LOOK_S, _ANSWER_S = 1.0, 10.0
_NEEDED = {"gcs_server", "raylet"}
"""Kinds of Ray's processes without which no run can be trained; the dashboard is none."""


def main() -> None:
    """Start the cluster, keep it, end it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    try:
        lock = Lock(kept.keeping())
    except Locked:
        print(kept.BUSY, flush=True)
        return
    try:
        found = _start(float(sys.argv[1]))
        signal.signal(signal.SIGTERM, _leave)  # Ray has put a handler of its own before it
        print(kept.READY, flush=True)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        _keep(found.idle_s)
    except Exception as error:
        print(" ".join(str(error).split()) or repr(error), flush=True)
    finally:
        _end()
        lock.close()
        sys.stdout.flush()
        os._exit(0)  # of Ray's, nothing is left that could be asked to end


def _worker() -> Any:
    """Ray's side of this process: nothing public has its node, nor the table of drivers."""
    from ray._private.worker import global_worker

    return global_worker


def _leave(*_: object) -> NoReturn:
    raise SystemExit


def _start(idle_s: float) -> kept.Kept:
    if (earlier := kept.Kept.read()) is not None:
        earlier.clear()
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        os.environ.pop(name, None)
    os.environ["RAY_AUTH_MODE"] = "token"
    names = session.start_own(dashboard=True, lasting=True)
    worker = _worker()
    family = [(process.pid, process.create_time()) for process in psutil.Process().children(recursive=True)]
    found = kept.Kept(
        address=worker.gcs_client.address,
        token=os.environ["RAY_AUTH_TOKEN"],
        session=worker.node.get_session_dir_path(),
        pid=os.getpid(),
        began=time.time(),
        idle_s=idle_s,
        cpus=allowed.cpus(),
        code=alike.code(),
        settings=alike.settings(names),
        names=list(names),
        family=family,
    )
    found.write()
    return found


def _keep(idle_s: float) -> None:
    """Until nobody has used it for so long, or a process of Ray has died: at once where runs need it, else when the
    last of them has ended."""
    node = _worker().node
    used = time.monotonic()
    while not _NEEDED & (dead := {kind for kind, _ in node.dead_processes()}):
        time.sleep(_LOOK_S)
        if kept.used(0) or _jobs():
            used = time.monotonic()
        elif dead or time.monotonic() - used >= idle_s:
            try:
                lock = Lock(kept.users(), wait_s=0)
            except Locked:
                continue
            kept.note().unlink(missing_ok=True)  # who comes now finds no cluster
            lock.close()
            return


def _jobs() -> bool:
    """Whether a driver is connected, beside this process and those of Ray's dashboard."""
    import ray

    mine = ray.get_runtime_context().get_job_id()
    jobs = _worker().gcs_client.get_all_job_info(
        skip_submission_job_info_field=True, skip_is_running_tasks_field=True, timeout=_ANSWER_S
    )
    return any(
        not job.is_dead and job.job_id.hex() != mine and not job.config.ray_namespace.startswith("_ray_internal")
        for job in jobs.values()
    )


def _end() -> None:
    """End all that was started, and remove its files."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kept.note().unlink(missing_ok=True)
    forkserver.stop()
    while started := psutil.Process().children(recursive=True):
        for process in started:
            process.kill()
        psutil.wait_procs(started, _ANSWER_S)
    for folder in (session.private_folder() / "ray").glob(f"session_*_{os.getpid()}"):
        tidy.remove_session(Path(folder))


if __name__ == "__main__":
    main()

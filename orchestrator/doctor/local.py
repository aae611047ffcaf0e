"""What is missing, open, mismatched or too small, here and on a cluster. A check is a function in one of two lists.

A check answers with a :class:`Finding`, or several; one that fails is a problem of its own, and hides no other.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import ctime

import psutil

from jobs import allowed
from jobs.urls import redact
from jobs.words import byte_size
from orchestrator.cluster import client as clusters
from orchestrator.cluster.client import Cluster
from orchestrator.doctor.finding import Finding, Found
from orchestrator.doctor.remote import THERE
from orchestrator.home import default_uri, home
from orchestrator.tracking.uri import check_uri

_GB = 2**30
_PACKAGES = ("torch", "torchvision", "timm", "ray", "mlflow")


def python() -> Found:
    """Python's version."""
    return Finding("ok", "python", f"{platform.python_version()} at {sys.executable}")


def packages() -> Iterable[Finding]:
    """Versions, against those that all of this was tested with."""
    pinned = constraints()
    for name in _PACKAGES:
        try:
            here = version(name)
        except PackageNotFoundError:
            yield Finding("problem", name, "not installed", "make setup")
            continue
        tested = pinned.get(name)
        if tested and here.split("+")[0] != tested:
            cure = f"pip install {name}=={tested}, or run the tests with {here}"
            yield Finding("warning", name, f"{here}, but tested with {tested}", cure)
        else:
            yield Finding("ok", name, here)


def constraints() -> dict[str, str]:
    """Package -> version of ``constraints.txt``; empty where this is no checkout."""
    file = Path(__file__).parents[2] / "constraints.txt"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return dict(re.findall(r"^([\w.-]+)==([^\s;+]+)", text, re.MULTILINE))


def gpu() -> Found:
    """Whether torch sees the GPUs that there are."""
    import torch

    driver = Path("/proc/driver/nvidia/version")
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())}
        told = f"{torch.cuda.device_count()} ({', '.join(sorted(names))}), CUDA {torch.version.cuda}"
        return Finding("ok", "GPU", told)
    if driver.exists():
        cure = "install a torch built for a CUDA that the driver has (nvidia-smi says which)"
        return Finding("problem", "GPU", f"a driver is here, but torch {torch.__version__} sees no GPU", cure)
    return Finding("ok", "GPU", "none: training runs on the CPU")


def cpus() -> Found:
    """How many CPUs may be used."""
    may, every = allowed.cpus(), os.cpu_count() or 1
    limit = f" of {every}, by the affinity or a control group of this process" if may < every else ""
    return Finding("ok", "CPUs", f"{may}{limit}")


def memory() -> Found:
    """RAM that is free."""
    total = allowed.memory()
    free = min(total, psutil.virtual_memory().available)
    told = f"{byte_size(free)} of {byte_size(total)} free"
    if free < 2 * _GB:
        return Finding("warning", "memory", told, "a worker takes 0.7 GB before it holds anything: end other programs")
    return Finding("ok", "memory", told)


def disk() -> Iterable[Finding]:
    """Room for checkpoints and models, and for Ray's session."""
    for name, folder in (("disk, home", home()), ("disk, temporary", Path(tempfile.gettempdir()))):
        usage = shutil.disk_usage(folder)
        told = f"{byte_size(usage.free)} free at {folder}"
        if usage.free < 0.05 * usage.total:
            cure = "Ray refuses objects and spills when a disk is 95 % full: orchestrator runs gc, or another disk"
            yield Finding("problem" if usage.free < _GB else "warning", name, told, cure)
        else:
            yield Finding("ok", name, told)


def shared_memory() -> Found:
    """/dev/shm, where Ray keeps the data that workers share."""
    if not os.path.isdir("/dev/shm"):
        return Finding("ok", "/dev/shm", "not on this system")
    total = shutil.disk_usage("/dev/shm").total
    wanted = 0.3 * allowed.memory()
    told = byte_size(total)
    if total < 0.9 * wanted:
        cure = f"Ray wants 30 % of memory there: start the container with --shm-size={wanted / _GB:.0f}g"
        return Finding("warning", "/dev/shm", told, cure)
    return Finding("ok", "/dev/shm", told)


def open_files() -> Found:
    """How many files a process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 4096:
        return Finding("warning", "open files", f"{soft} at most", "Ray wants many: ulimit -n 65536 before starting it")
    return Finding("ok", "open files", f"{soft} at most" if soft >= 0 else "no limit")


def own_home() -> Found:
    """Whether runs can be written, and are nobody else's business."""
    folder = home()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        return Finding("problem", "home", f"{folder}: {error.strerror}", "set ORCHESTRATOR_HOME to a folder of yours")
    if (mode := folder.stat().st_mode & 0o777) & 0o077:
        return Finding("warning", "home", f"{folder} is open to others ({mode:o})", f"chmod 700 {folder}")
    return Finding("ok", "home", str(folder))


def tracking() -> Found:
    """Whether MLflow's store answers and has the tables that this MLflow wants."""
    from orchestrator.tracking.mlflow import Unreachable, connect

    uri = default_uri()
    try:
        check_uri(redact(uri))
        if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
            return Finding("ok", "MLflow", f"{uri} will be made by the first run")
        connect(redact(uri), home() / "artifacts")
    except ValueError as error:
        return Finding("problem", "MLflow", str(error), "set MLFLOW_TRACKING_URI to a server or a database")
    except Unreachable as error:
        cure = "start it, or set MLFLOW_TRACKING_URI; runs continue without it, and orchestrator sync sends them later"
        if "out-of-date" in str(error) or "revision" in str(error):
            cure = f"its tables are another MLflow's: mlflow db upgrade {redact(uri)}"
        return Finding("problem", "MLflow", str(error).splitlines()[0], cure)
    return Finding("ok", "MLflow", redact(uri))


def token() -> Found:
    """Ray's token: there, and nobody else's."""
    known, origin = clusters.token()
    if known is None:
        cure = "for a cluster: ray get-auth-token --generate, the same on all nodes; one machine alone needs none"
        return Finding("ok", "Ray's token", f"none in {origin}", cure)
    path = Path(origin).expanduser()
    if path.is_file() and (mode := path.stat().st_mode & 0o777) & 0o077:
        told = f"{origin} can be read by others ({mode:o})"
        return Finding("problem", "Ray's token", f"{told}: they may run anything on the cluster", f"chmod 600 {origin}")
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        told = f"RAY_AUTH_MODE is {os.environ['RAY_AUTH_MODE']}: clusters started here want no token"
        return Finding("warning", "Ray's token", told, "export RAY_AUTH_MODE=token")
    return Finding("ok", "Ray's token", origin)


def cluster_here() -> Found:
    """The cluster that ``orchestrator up`` keeps."""
    from orchestrator.execution import kept, session

    found = kept.find()
    if found is None:
        return Finding("ok", "orchestrator up", "no cluster is kept here; each command starts one of its own")
    told = f"{found.address}, {found.cpus} CPUs, {'used' if kept.used() else 'idle'}, up since {ctime(found.began)}"
    if differing := found.differs(session.ENVIRONMENT | session.ALONE | os.environ):
        cure = "orchestrator down; orchestrator up"
        return Finding("warning", "orchestrator up", f"{told}; not joined from here: {', '.join(differing)}", cure)
    return Finding("ok", "orchestrator up", told)


HERE: tuple[Callable[[], Found], ...] = (
    *(python, packages, cpus, gpu, memory, disk, shared_memory, open_files, own_home, tracking, token, cluster_here),
)
"""What is looked at on this machine."""


def examine(address: str | None = None) -> list[Finding]:
    """All findings: of this machine, and of the cluster at ``address`` where one is given."""
    found: list[Finding] = []
    for check in HERE:
        found += _run(check.__name__, check)
    if address is not None:
        cluster = Cluster(address)
        for look in THERE:
            found += _run(look.__name__, lambda look=look: look(cluster))  # type: ignore[misc]
            if found[-1].check == "cluster" and found[-1].level == "problem":
                break
    return found


def _run(name: str, check: Callable[[], Found]) -> list[Finding]:
    try:
        answer = check()
        return [answer] if isinstance(answer, Finding) else list(answer)
    except Exception as error:
        return [Finding("problem", name.replace("_", " "), f"{type(error).__name__}: {error}")]

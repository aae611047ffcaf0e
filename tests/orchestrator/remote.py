"""A real Ray cluster that wants a token, started as people start one, on ports of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.orchestrator.real import ROOT, wait_until

PLANTED = {
    "AWS_SECRET_ACCESS_KEY": "planted-aws-1f6b",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-77aa",
    "HF_TOKEN": "planted-hf-90cd",
    "MLFLOW_TRACKING_URI": "http://someone:planted-uri-33ee@127.0.0.1:9/",
}
"""Secrets in the environment of whoever submits."""
THERE = {name: f"planted-there-{name}" for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN")}
"""Secrets in the environment that the cluster is started in, which jobs may use."""
_BIN = Path(sys.executable).parent


class Remote:
    """The cluster: its address, the environment of whoever uses it, and the folder that Ray writes to."""

    def __init__(self, folder: Path, token: str, port: int) -> None:
        self.folder, self.token = folder, token
        self.address = f"http://127.0.0.1:{port}"
        self.home = folder / "cluster-home"
        (folder / "token").write_text(token, encoding="utf-8")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))},
            "RAY_API_SERVER_ADDRESS": self.address,
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "ORCHESTRATOR_HOME": str(folder / "own-home"),
        }
        self.environment.pop("COLUMNS", None)

    def __call__(self, *words: str, cwd: Path = ROOT, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run the command line on a machine that has the cluster's address and token."""
        command = [sys.executable, "-m", "orchestrator", *words]
        return subprocess.run(command, cwd=cwd, env=self.environment | changes, capture_output=True, text=True)


@contextmanager
def remote() -> Iterator[Remote]:
    """Start a cluster with two CPUs and a token, and end all of its processes."""
    with ExitStack() as after:
        folder = Path(tempfile.mkdtemp(prefix="o", dir="/tmp"))  # a socket's path has room for 107 letters
        after.callback(shutil.rmtree, folder, ignore_errors=True)
        ports = _free(7)
        there = Remote(folder, secrets.token_hex(32), ports[0])
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))},
            "PATH": f"{_BIN}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "ORCHESTRATOR_HOME": str(there.home),
            "RAY_USAGE_STATS_ENABLED": "0",
            **THERE,
        }
        names = ("dashboard-port", "port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")
        names += ("runtime-env-agent-port", "metrics-export-port", "ray-client-server-port")
        words = [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
        words += ["--head", "--num-cpus=2", "--num-gpus=0", "--include-dashboard=true", f"--temp-dir={folder}/r"]
        command = [str(_BIN / "ray"), "start", *words]
        after.callback(_end, folder)
        started = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert started.returncode == 0, started.stdout + started.stderr
        wait_until(lambda: _answers(ports[0]), "the cluster's dashboard")
        yield there


def _end(folder: Path) -> None:
    """End all processes of the cluster: those that know its folder, and what they started."""
    mine = [process for process in psutil.process_iter() if _knows(process, f"{folder}/r")]
    mine += [child for process in mine for child in _children(process)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in mine:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        _, mine = psutil.wait_procs(mine, 5)


def _knows(process: psutil.Process, folder: str) -> bool:
    try:
        return any(folder in word for word in process.cmdline())
    except psutil.Error:
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _free(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def planted_in(folder: Path) -> list[str]:
    """Files below a folder, databases and logs among them, that hold a planted secret."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and b"planted-" in path.read_bytes()]

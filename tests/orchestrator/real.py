"""The command line and its runs as a user meets them: real processes, real journals, real MLflow."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import torch
from safetensors.torch import load_file

from jobs import specfile
from jobs.spec import JobSpec
from orchestrator.home import default_uri, run_folder
from tests.orchestrator import copied

ROOT = Path(__file__).parents[2]
DIGITS = "jobs/recipes/digits.yaml"
OWN = {"RAY_ADDRESS": "local"}
"""For a command that starts a cluster of its own where the others of a test join that of the test run (``warm``)."""
_PATIENCE_S = 300
_ON_A_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
os.execv(sys.argv[1], sys.argv[1:])
"""


def job(*overrides: str) -> JobSpec:
    """The demo's job."""
    return specfile.read(ROOT / DIGITS, JobSpec, overrides)


def mlflow_run(name: str) -> Any:
    """A client, and MLflow's one run of that name."""
    from mlflow import MlflowClient

    client = MlflowClient(default_uri())
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`orchestrator.run` = '{name}'")
    assert len(runs) == 1
    return client, runs[0]


def points(client: Any, run: Any, metric: str) -> list[tuple[int, float]]:
    """Every point of a metric in MLflow."""
    return sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric))


def weights(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a finished run's model."""
    return load_file(run_folder(name) / "model" / "model.safetensors")


def damage(run: str) -> str:
    """Flip a bit in a run's newest checkpoint, which is complete; its name."""
    newest = max(state.parent for state in (run_folder(run) / "checkpoints").glob("step_*/state.json"))
    tensors = newest / "tensors.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    return newest.name


def wait_until(true: Callable[[], Any], what: str) -> Any:
    """The first value of ``true()`` that is."""
    until = time.monotonic() + _PATIENCE_S
    while not (value := true()):
        assert time.monotonic() < until, f"in vain waited for {what}"
        time.sleep(0.1)
    return value


def actors(title: str, root: int | None = None) -> list[psutil.Process]:
    """The processes of Ray actors whose title holds that text, below a driver (this process by default)."""
    found = []
    for process in psutil.Process(root).children(recursive=True):
        try:
            if title in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def listening(*roots: int) -> list[tuple[int, bool, str]]:
    """TCP ports of the processes from those down: number, whether it is on loopback only, and the process's name."""
    every = [process for root in roots for process in [psutil.Process(root), *psutil.Process(root).children(True)]]
    family = {process.pid: process.name() for process in every}
    ports = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.pid in family]
    assert ports
    local = [ipaddress.ip_address(one.laddr.ip.removeprefix("::ffff:")).is_loopback for one in ports]
    return [(one.laddr.port, alone, family[one.pid]) for one, alone in zip(ports, local, strict=True)]


def orchestrator(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command line, run to its end in a folder."""
    (out, its_out), (err, its_err) = os.pipe(), os.pipe()
    with open(os.devnull) as nothing:
        process = copied.start([*words], _environment(), folder, [nothing.fileno(), its_out, its_err])
    os.close(its_out)
    os.close(its_err)
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(_read_all, (out, err)))
    return subprocess.CompletedProcess(words, process.wait(), *texts)


class Command:
    """The command line as a process of its own, in a group of its own as a shell would start it.

    Args:
        words: of the command.
        env: variables beside those of this process.
        terminal: run it on a terminal, which :meth:`close_terminal` closes.
    """

    def __init__(self, *words: str, env: Mapping[str, str] | None = None, terminal: bool = False) -> None:
        ours, its = pty.openpty() if terminal else os.pipe()
        environment = _environment() | dict(env or {})
        self.process: subprocess.Popen[bytes] | copied.Copy
        if terminal:
            command = [sys.executable, "-c", _ON_A_TERMINAL, sys.executable, "-m", "orchestrator", *words]
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=its, stdout=its, stderr=its, start_new_session=True
            )
        else:
            with open(os.devnull) as nothing:
                self.process = copied.start([*words], environment, ROOT, [nothing.fileno(), its, its])
        os.close(its)
        self.output = ""
        self._ours = ours
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the output has a match, which must come before the command ends."""

        def seen() -> Any:
            ended = self.process.poll() is not None
            found = re.search(pattern, self.output)
            assert found or not ended, f"ended without {pattern!r}:\n{self.output}"
            return found

        return wait_until(seen, f"{pattern!r} in:\n{self.output}")

    def interrupt(self) -> None:
        """What Ctrl-C on a terminal does: the whole group gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def time_out(self) -> None:
        """What ``timeout`` does when the time is over: the process gets SIGTERM, then its whole group."""
        self.process.terminate()
        os.killpg(self.process.pid, signal.SIGTERM)

    def close_terminal(self) -> None:
        """Close the window: the kernel sends SIGHUP, and nothing can be written any more."""
        os.close(self._ours)

    def end(self) -> int:
        """The exit code."""
        code = self.process.wait(_PATIENCE_S)
        self._reader.join(_PATIENCE_S)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing of it behind."""
        left = [self.process.pid] if self.process.poll() is None else []
        if left:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
        self.process.wait()
        self._reader.join(_PATIENCE_S)
        with contextlib.suppress(OSError):
            os.close(self._ours)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # a terminal that is closed
            while text := os.read(self._ours, 65536):
                self.output += text.decode(errors="replace")


def _read_all(pipe: int) -> str:
    with open(pipe) as text:
        return text.read()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "COLUMNS")}

"""Runs a stage in processes of its own, so that neither a hang nor a crash of one cell reaches another."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from benchmarks.gpu.cell import Stage
from benchmarks.gpu.rows import Rows

START_S = 120.0
"""How long a process may take until it begins its first cell."""
ROOT = Path(__file__).parents[2]


class Worker:
    """A process with cells to answer.

    Attributes:
        names: of the cells that it has not answered yet; the first is the one it is at.
    """

    def __init__(self, module: str, setting: Path, names: list[str], lines: queue.Queue[Any], log: Path) -> None:
        self.names, self.log = names, log
        self.at: str | None = None
        self.since = time.monotonic()
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.child", module, str(setting), *names],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        threading.Thread(target=self._listen, args=(lines,), daemon=True).start()

    def _listen(self, lines: queue.Queue[Any]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):
                lines.put((self, json.loads(line)))
        lines.put((self, None))

    def kill(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def run(module: str, rows: Rows, seconds: float, only: str = "") -> bool:
    """Run what a stage has not answered yet; whether all of it is answered now.

    Args:
        module: that has the ``STAGE``.
        rows: where answers go.
        seconds: after which no cell continues; one that was running is started again another time.
        only: cells with this in their name.
    """
    stage: Stage = importlib.import_module(module).STAGE
    setting, until = rows.setting, time.monotonic() + seconds
    cells = {cell.name: cell for cell in stage.cells(setting) if only in cell.name}
    names = [name for name in cells if name not in rows.done(stage.name)]
    width, patience = max(1, stage.width(setting)), 10 if setting.quick else 1  # a rehearsal may be on a busy machine
    waiting = deque([names] if width == 1 else [[name] for name in names])
    lines: queue.Queue[Any] = queue.Queue()
    live: set[Worker] = set()
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        told = Path(scratch) / "setting.json"
        told.write_text(json.dumps({**vars(setting), "folder": str(setting.folder.absolute())}), encoding="utf-8")
        try:
            while (waiting or live) and time.monotonic() < until:
                while waiting and len(live) < width:
                    if group := waiting.popleft():
                        log = Path(scratch) / f"{group[0].replace('/', '_')[:60]}.log"
                        live.add(Worker(module, told, group, lines, log))
                with contextlib.suppress(queue.Empty):
                    worker, line = lines.get(timeout=0.1 if live else 0)
                    if worker in live:
                        _hear(stage, rows, worker, line, live, waiting)
                for worker in list(live):
                    limit = patience * (START_S if worker.at is None else cells[worker.at].limit_s)
                    if time.monotonic() - worker.since > limit:
                        worker.kill()
                        _fail(stage, rows, worker, f"did not end within {limit:g} s", live, waiting)
        finally:
            for worker in live:
                worker.kill()
    return not set(cells) - rows.done(stage.name)


def _hear(stage: Stage, rows: Rows, worker: Worker, line: Any, live: set[Worker], waiting: deque[list[str]]) -> None:
    if line is None:
        code = worker.process.wait()
        if worker.names:
            _fail(stage, rows, worker, f"the process ended with {code}: {_tail(worker.log)}", live, waiting)
        live.discard(worker)
    elif "began" in line:
        worker.at, worker.since = line["began"], time.monotonic()
    else:
        rows.add(stage.name, line["ended"], line["seconds"], line["row"])
        show(stage.name, line["ended"], line["row"])
        worker.names = worker.names[1:]
        worker.at, worker.since = None, time.monotonic()


def _fail(stage: Stage, rows: Rows, worker: Worker, why: str, live: set[Worker], waiting: deque[list[str]]) -> None:
    """Give the running cell the failure, and let another process continue with the rest."""
    live.discard(worker)
    if worker.at is not None or "ended with 3" not in why:
        row = {"error": why}
        rows.add(stage.name, worker.names[0], time.monotonic() - worker.since, row)
        show(stage.name, worker.names[0], row)
        worker.names = worker.names[1:]
    waiting.appendleft(worker.names)


def show(stage: str, cell: str, row: dict[str, Any]) -> None:
    """One line for people."""
    print(f"{stage:<8} {cell}: {json.dumps(row)[:400]}", flush=True)


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return (lines or [""])[-1][:300]


def limit(name: str) -> float:
    """Seconds that a stage of this package may take of a session."""
    stage: Stage = importlib.import_module(f"benchmarks.gpu.{name}").STAGE
    return stage.limit_s

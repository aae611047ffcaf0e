"""The rows: one JSON line each, with the card, the driver and the versions it was measured with."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.gpu.cell import Row, Setting

FILE = "gpu.jsonl"


def read(folder: Path) -> list[Row]:
    """All rows of a folder; a line that a dying machine cut short counts as none."""
    rows = []
    for line in (folder / FILE).read_text(encoding="utf-8").splitlines() if (folder / FILE).exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


class Rows:
    """The rows of a folder, for one setting; only this process adds to them.

    Args:
        setting: rows of another kind of device, or of other sizes, answer nothing here.
        retry: rows that report a failure count as missing.
    """

    def __init__(self, setting: Setting, retry: bool = False) -> None:
        self.setting, self.retry = setting, retry
        setting.folder.mkdir(parents=True, exist_ok=True)
        self._machine = machine(setting.device)

    def done(self, stage: str) -> set[str]:
        """Names of the cells that need not be asked again."""
        return {row["cell"] for row in self.of(stage) if not (self.retry and "error" in row)}

    def of(self, stage: str) -> list[Row]:
        """The rows of a stage."""
        wanted = (stage, self.setting.device, self.setting.quick)
        return [row for row in read(self.setting.folder) if (row["stage"], row["device"], row["quick"]) == wanted]

    def add(self, stage: str, cell: str, seconds: float, result: Row) -> None:
        """Append one."""
        head: dict[str, Any] = {"stage": stage, "cell": cell}
        where = {"device": self.setting.device, "quick": self.setting.quick, **self._machine}
        when = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 1)}
        path = self.setting.folder / FILE
        cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * cut + json.dumps({**head, **result, **when, **where}) + "\n")


def machine(device: str) -> dict[str, str]:
    """Card, driver and versions; asks no library that would take memory of the GPU."""
    import torch

    card, driver = platform.processor() or platform.machine(), "none"
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            told = subprocess.run(query, capture_output=True, text=True, timeout=30).stdout.splitlines()
        except (OSError, subprocess.TimeoutExpired):
            told = []
        card, driver = [word.strip() for word in told[0].split(",")] if told else ("unknown", "unknown")
    return {
        "card": card,
        "driver": driver,
        "torch": version("torch"),
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
    }

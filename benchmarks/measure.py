"""What all benchmarks share: the options, the machine, real data, and ratios of pairs with their spread."""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import platform
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Column, Table

ROOT = Path(__file__).resolve().parent.parent
QUIET_LOAD = 0.5
"""Load average of one minute above which something else is at work."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


@dataclass(frozen=True)
class Spread:
    """Some values: their median with an interval that holds the true one with ``confidence``, and their range.

    The interval is of order statistics, and takes nothing for granted about how the values are distributed.
    """

    median: float
    low: float
    high: float
    confidence: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float], level: float = 0.95) -> Spread:
        """The narrowest such interval with at least ``level``; of fewer than 6 values, their range with what it has."""
        ranked, count = sorted(values), len(values)
        confidence = [1 - 2 * sum(math.comb(count, i) for i in range(k)) / 2**count for k in range(1, count // 2 + 1)]
        cut = max((k for k, held in enumerate(confidence) if held >= level), default=0)
        held = confidence[cut] if confidence else 0.0
        median = statistics.median(ranked)
        return cls(median, ranked[cut], ranked[count - 1 - cut], held, ranked[0], ranked[-1], count)

    @classmethod
    def ratio(cls, above: Sequence[float], below: Sequence[float]) -> Spread:
        """Of the ratios of values that were measured in pairs."""
        return cls.of([a / b for a, b in zip(above, below, strict=True)])

    def cells(self, form: Callable[[float], str]) -> list[str]:
        """For a table with the columns :data:`SPREAD`."""
        return [
            form(self.median),
            f"{form(self.low)} .. {form(self.high)} ({self.confidence:.0%})",
            f"{form(self.least)} .. {form(self.most)}",
            str(self.count),
        ]


SPREAD = ("median", "interval", "min .. max", "n")


def number(digits: int) -> Callable[[float], str]:
    """Writes numbers with that many decimals."""
    return lambda value: f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """Writes shares."""
    return f"{value:.2%}"


def table(title: str, first: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; all columns but the first are numbers."""
    shown = Table(first, *(Column(name, justify="right") for name in columns), title=title, title_justify="left")
    for row in rows:
        shown.add_row(*row)
    out.print(shown)


def options(doc: str | None, pairs: int) -> argparse.ArgumentParser:
    """The options that all have; ``pairs`` is the usual number of pairs or samples."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few and tiny samples: shows that it works, not how fast")
    parser.add_argument("--pairs", type=int, default=pairs, help=f"pairs or samples (default {pairs})")
    return parser


def header(given: argparse.Namespace) -> None:
    """Say where and under what conditions this is measured; from now on SIGTERM ends worlds too that stand still."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from importlib.metadata import version

    cpu = next((s.split(":")[1].strip() for s in _lines("/proc/cpuinfo") if s.startswith("model name")), "")
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray"))
    out.print(f"{cpu or platform.machine()}, {os.cpu_count()} CPUs, {psutil.virtual_memory().total / 2**30:.0f} GiB")
    out.print(f"Python {platform.python_version()}, {versions}; load {os.getloadavg()[0]:.2f}")
    if os.getloadavg()[0] > QUIET_LOAD:
        out.print("[bold]this machine is busy with something else: the figures say little[/bold]")
    if given.quick:
        out.print("[bold]--quick: these figures show only that the benchmark works[/bold]")


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def cifar10() -> Path:
    """The folder of real CIFAR-10 that ``CIFAR10_PARQUET`` names: ``train.parquet`` and ``test.parquet``."""
    folder = os.environ.get("CIFAR10_PARQUET")
    if not folder or not Path(folder, "train.parquet").is_file():
        sys.exit("set CIFAR10_PARQUET to a folder with CIFAR-10 as train.parquet and test.parquet")
    return Path(folder).absolute()


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for this benchmark alone, which is also ORCHESTRATOR_HOME."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as path:
        os.environ["ORCHESTRATOR_HOME"] = f"{path}/home"
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.environ.pop("RAY_ADDRESS", None)
        yield Path(path)


@contextmanager
def cores(count: int) -> Iterator[None]:
    """This process and those that it starts have so many cores, where the system can say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def keep_memory() -> None:
    """Have glibc keep what is freed: else half of Pillow's time on large images is page faults, in some runs and not in
    others."""
    glibc = ctypes.CDLL(None)
    if hasattr(glibc, "mallopt"):
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            glibc.mallopt(option, 2**30)


def recipe(folder: Path, images: int, *overrides: str, test: int | None = None) -> Path:
    """``jobs/recipes/cifar10.yaml`` with overrides, on a training split of ``images`` images or a few more.

    It is tested on ``test`` images, else on 1000 or a ninth as many.
    The answer is its file. The job never ends by itself, and evaluates and saves nothing until it is stopped, unless
    the overrides say so.
    """
    import pyarrow.parquet as pq

    from jobs import specfile
    from jobs.spec import JobSpec

    rows = {"train": round(images / 0.9) + 20, "test": test or max(1000, images // 9)}
    number = sum(1 for _ in folder.glob("data*"))
    data = folder / f"data{number}"
    data.mkdir()
    for split, count in rows.items():
        pq.write_table(pq.read_table(cifar10() / f"{split}.parquet").slice(0, count), data / f"{split}.parquet")
    paths = ", ".join(f"{split}: {data}/{split}.parquet" for split in rows)
    fixed = [f"data={{kind: parquet, {paths}, val_fraction: 0.05}}"]
    fixed += ["epochs=1000000", "evaluation.every_epochs=1000000", "checkpoint.every_epochs=1000000"]
    spec = specfile.read(ROOT / "jobs" / "recipes" / "cifar10.yaml", JobSpec, [*fixed, *overrides])
    path = folder / f"spec{number}.yaml"
    path.write_text(specfile.dump(spec), encoding="utf-8")
    return path

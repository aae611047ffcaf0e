"""Opening photographs and preparing their pixels: in one pass over the files, against two.

Files are those of ``benchmarks.feed``; each opening finds empty caches. Seconds of CPU count, of all threads. Two
passes are what ``orchestrator plan`` and then ``train`` do, or ``train`` on a machine that it did not open the data on.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.feed import KINDS, SIZE, photographs
from benchmarks.measure import SPREAD, Spread, header, number, options, table, workplace
from jobs.data import ImageFolder
from jobs.home import home

SIDE = 256
GIVEN: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def seconds(folder: Path, one_pass: bool, **changes: Any) -> float:
    """CPU seconds until all is known of the images and their pixels are prepared."""
    shutil.rmtree(home() / "cache", ignore_errors=True)
    source = ImageFolder(root=str(folder), size=SIZE, in_memory=False, prepare=SIDE, crop_ratio=0.875, **changes)
    began = time.process_time()
    source.open(True if one_pass else None).here(True)
    return time.process_time() - began


def rows(given: argparse.Namespace, folder: Path, kind: str) -> None:
    """The table of one kind of files."""
    width, suffix, saved = KINDS[kind]
    count = 24 if given.quick else 200 if width > 1000 else 2000
    root = photographs(folder / kind, count, width, suffix, saved)
    ways: dict[str, dict[str, Any]] = {
        "two passes": {"one_pass": False},
        "one pass": {"one_pass": True},
        "two passes, mean and std given": {"one_pass": False, **GIVEN},
        "one pass, mean and std given": {"one_pass": True, **GIVEN},
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.pairs):
        for name, how in ways.items():
            took[name].append(seconds(root, **how))
    base = took["two passes"]
    table(
        f"{count} files, {kind}: CPU seconds until they can be trained on",
        "path",
        ("s", *(f"ratio, {each}" for each in SPREAD)),
        [
            [name, f"{Spread.of(own).median:.2f}", *Spread.ratio(own, base).cells(number(2))]
            for name, own in took.items()
        ],
    )


def main() -> None:
    given = options(__doc__, 7).parse_args()
    if given.quick:
        given.pairs = 1
    header(given)
    torch.set_num_threads(1)
    with workplace() as folder:
        for kind in ("JPEG 500x375", "JPEG 3000x2000", "PNG 500x375"):
            rows(given, folder, kind)


if __name__ == "__main__":
    main()

"""Shards in a bucket against originals on disk: images a second of a loader process.

Photographs of 500x375 (JPEG, quality 90) as in ``benchmarks.feed``; the bucket is moto's S3 server in a process of its
own on this machine, whose CPU time is not counted (of wall time it takes its part). Each pair is an epoch of the
originals, one of shards of which no copy is there yet (each is fetched within the epoch), one whose copies are there,
and one that may keep a half of them. Goal: 0.9 of the originals.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.feed import KINDS, SIZE, job, photographs, source
from benchmarks.measure import SPREAD, Spread, header, number, options, table, workplace
from jobs.data import Shards
from jobs.data.cache import cached
from jobs.data.feed import Pass
from jobs.data.loader import Loader
from jobs.data.shards.write import write
from jobs.place import Place

LANES, BATCH = 4, 32
BUCKET = "s3://bucket/shards"
HALF = "shards, room for a half"


@contextmanager
def bucket() -> Iterator[int]:
    """An S3 server on loopback with an empty bucket, which the environment names; its process id."""
    import fsspec

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    os.environ |= {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "who",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    serve = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"
    server = subprocess.Popen([sys.executable, "-c", serve, port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", int(port)), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        fsspec.filesystem("s3").mkdir("bucket")
        yield server.pid
    finally:
        server.kill()
        server.wait()


def cpu_s(server: int) -> float:
    """CPU seconds of this process and its loader processes so far."""
    this = psutil.Process()
    every = [this, *(each for each in this.children(recursive=True) if each.pid != server)]
    return sum(times.user + times.system for times in (each.cpu_times() for each in every))


def rate(loader: Loader, this: Pass, server: int) -> tuple[float, float]:
    """Images of a pass a second of CPU time, and of wall time."""
    assert loader._feed is not None
    began, cpu, seen = time.perf_counter(), cpu_s(server), 0
    for visits, _ in loader._feed.batches(this):
        seen += len(visits)
    return seen / (cpu_s(server) - cpu), seen / (time.perf_counter() - began)


def measure(given: argparse.Namespace, folder: Path, server: int) -> None:
    """The tables."""
    count = 200 if given.quick else 3000
    root = photographs(folder / "photographs", count, *KINDS["JPEG 500x375"])
    written = write(source(root), BUCKET, 2**20 if given.quick else 8 * 2**20)
    size = sum(each.bytes for each in written.shards)
    common: dict[str, Any] = {
        "size": SIZE,
        "in_memory": False,
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
        "loader_workers": 1,
    }
    half = max(size / 2, 5 * max(each.bytes for each in written.shards)) / 2**30
    ways = {
        "originals on disk": source(root, loader_workers=1),
        "shards, none here yet": Shards(root=BUCKET, lanes=LANES, **common),
        "shards, all here": Shards(root=BUCKET, lanes=LANES, **common),
        HALF: Shards(root=BUCKET, lanes=2, cache_gb=half, **common),
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(given.pairs + 1):
        for name, each in ways.items():
            if name != "shards, all here":
                shutil.rmtree(cached("shards", "", ""), ignore_errors=True)
            spec, data = job(each, BATCH)
            with closing(Loader(spec, data, Place(), spec.steps(len(data.train)))) as loader:
                rate(loader, Pass("val", 0), server)  # starts the loader process
                found = rate(loader, Pass("train", 1), server)
                if name == HALF:
                    rate(loader, Pass("val", 1), server)
                    found = rate(loader, Pass("train", 2), server)
            if turn:
                rates[name].append(found)
    for which, kind in enumerate(("CPU time, without the server's", "wall time")):
        every = {name: [each[which] for each in found] for name, found in rates.items()}
        rows = [
            [name, f"{Spread.of(each).median:,.0f}", *Spread.ratio(each, every["originals on disk"]).cells(number(2))]
            for name, each in every.items()
        ]
        title = (
            f"{count} photographs, {size / 2**20:.0f} MB in {len(written.shards)} shards, one loader process: {kind}"
        )
        table(title, "", ("images/s", *(f"ratio, {each}" for each in SPREAD)), rows)


def main() -> None:
    """Print the table."""
    given = options(__doc__, 7).parse_args()
    if given.quick:
        given.pairs = 1
    header(given)
    torch.set_num_threads(1)
    with workplace() as folder, bucket() as server:
        measure(given, folder, server)


if __name__ == "__main__":
    main()

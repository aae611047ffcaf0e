"""Seconds that an elastic job takes to train on where one of two nodes is lost, and where it is added again.

Both nodes are processes of this machine, and each worker has one of its cores. An epoch of digits takes a small part of
a second, so what is measured is what passes between two epochs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import IO

from ray.cluster_utils import Cluster

from benchmarks.measure import ROOT, SPREAD, Spread, header, number, options, out, table, workplace

LOST, ADDED = "a node was killed", "a node was added"


def main() -> None:
    given = options(__doc__, pairs=5).parse_args()
    if given.quick:
        given.pairs = 1
    header(given)
    seconds: dict[str, list[float]] = {LOST: [], ADDED: []}
    with workplace():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            _measure(cluster, given.pairs, seconds)
        finally:
            cluster.shutdown()
    rows = [[text, *Spread.of(values).cells(number(1))] for text, values in seconds.items()]
    table("s until the next epoch was over, digits, 1 or 2 workers of a core each", "after", SPREAD, rows)


def _measure(cluster: Cluster, turns: int, seconds: dict[str, list[float]]) -> None:
    """Add to ``seconds``."""
    node = cluster.add_node(num_cpus=1)
    words = ["-s", "epochs=100000", "-s", "resources.workers={min: 1, max: 2}"]
    command = [sys.executable, "-m", "orchestrator", "train", "jobs/recipes/digits.yaml", *words]
    environment = os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    run = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.stdout is not None
    try:
        _until(run.stdout, "training with 2 of 2 workers")
        _epochs(run.stdout, 3)
        for turn in range(turns):
            cluster.remove_node(node, allow_graceful=False)
            began = time.monotonic()
            _until(run.stdout, "training with 1 of 2 workers")
            _epochs(run.stdout, 1)
            seconds[LOST].append(time.monotonic() - began)
            _epochs(run.stdout, 3)
            began = time.monotonic()
            node = cluster.add_node(num_cpus=1)
            _until(run.stdout, "training with 2 of 2 workers")
            _epochs(run.stdout, 1)
            seconds[ADDED].append(time.monotonic() - began)
            _epochs(run.stdout, 3)
            out.print(
                f"turn {turn + 1}: {', '.join(f'{text}: {values[-1]:.1f} s' for text, values in seconds.items())}"
            )
    finally:
        run.kill()
        run.wait()


def _until(lines: IO[str], text: str) -> None:
    """Read on until a line holds that text."""
    for line in lines:
        if text in line:
            return
    raise SystemExit(f"the job ended before it said {text!r}")


def _epochs(lines: IO[str], count: int) -> None:
    """Read on until so many epochs are over."""
    for _ in range(count):
        _until(lines, "epoch ")


if __name__ == "__main__":
    main()

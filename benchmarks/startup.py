"""Seconds from the command to the first optimizer step of ``orchestrator train jobs/recipes/digits.yaml``, in parts.

The same job is started under torchrun for comparison, and with a cluster that ``orchestrator up`` keeps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import accumulate
from pathlib import Path

from benchmarks.measure import ROOT, SPREAD, Spread, header, number, options, out, table, workplace
from benchmarks.probe import MARKS

PARTS = {
    "train": "imports, command line, spec",
    "data opened": "data: open, check, decode, beside Ray's start",
    "ray": "Ray: start, share the data, open the run",
    "worker": "workers: controller, processes",
    "joined": "workers: imports, process group",
    "loop": "workers: data",
    "model": "model: build, wrap in DDP, settle",
    "step": "first step",
}
"""What has passed when a mark of ``benchmarks.probe`` is made, in order; some of it overlaps with what comes before."""


def sample(folder: Path, number: int) -> dict[str, float]:
    """Seconds of each part, by the mark that ends it."""
    path = folder / f"marks{number}"
    environment = os.environ | {MARKS: str(path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.probe", "train", "jobs/recipes/digits.yaml", "-s", "epochs=2"]
    began = time.time()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    marks: dict[str, float] = {}
    for line in path.read_text().splitlines():
        marks.setdefault(*json.loads(line))
    ends = list(accumulate((began, *(marks[name] for name in PARTS)), max))  # some overlap
    return {name: ends[i + 1] - ends[i] for i, name in enumerate(PARTS)}


def torchrun(folder: Path, number: int) -> float:
    """Seconds under torchrun."""
    path = folder / f"torchrun{number}"
    environment = os.environ | {MARKS: str(path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "benchmarks.probe"]
    began = time.time()
    words = [*command, "torchrun", "jobs/recipes/digits.yaml", "-s", "epochs=2"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return min(when for name, when in map(json.loads, path.read_text().splitlines()) if name == "step") - began


def kept(verb: str) -> None:
    """``orchestrator up`` or ``down``."""
    words = [sys.executable, "-m", "orchestrator", verb]
    subprocess.run(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True)


def main() -> None:
    given = options(__doc__, pairs=7).parse_args()
    if given.quick:
        given.pairs = 1
    header(given)
    samples, bare, joined = [], [], []
    with workplace() as folder:
        for turn in range(given.pairs + 1):
            seconds = sample(folder, turn)
            out.print(f"{'first, in an empty home' if turn == 0 else f'turn {turn}'}: {sum(seconds.values()):.2f} s")
            samples.append(seconds)
            bare.append(torchrun(folder, turn))
            kept("up")
            try:
                joined.append(sum(sample(folder, given.pairs + 1 + turn).values()))
            finally:
                kept("down")
    first, *later = samples
    rows = [
        [text, *Spread.of([s[name] for s in later]).cells(number(2)), number(2)(first[name])]
        for name, text in PARTS.items()
    ]
    whole = Spread.of([sum(s.values()) for s in later])
    rows.append(["in all", *whole.cells(number(2)), number(2)(sum(first.values()))])
    rows.append(["torchrun, in all", *Spread.of(bare[1:]).cells(number(2)), number(2)(bare[0])])
    ratio = Spread.ratio([sum(s.values()) for s in later], bare[1:])
    rows.append(["ratio (goal: 1.5 at most)", *ratio.cells(number(2)), ""])
    rows.append(["with a cluster that is up, in all", *Spread.of(joined[1:]).cells(number(2)), number(2)(joined[0])])
    ratio = Spread.ratio(joined[1:], bare[1:])
    rows.append(["its ratio (goal: 1.1 at most)", *ratio.cells(number(2)), ""])
    table("s from the command to the first optimizer step, digits, 2 workers", "part", [*SPREAD, "first ever"], rows)


if __name__ == "__main__":
    main()

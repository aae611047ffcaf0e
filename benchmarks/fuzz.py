"""Thousands of wrong specs: each is refused with a located message that can be printed, or accepted, within a second.

``python -m benchmarks.fuzz --count 100000 --seed 0 --state fuzz.jsonl``: a process for every core; what ``--state`` has
already is not tried again. ``--show NUMBER`` prints one case and the message. The files are those of
:mod:`benchmarks.mutations`; a search is checked as ``orchestrator search plan`` checks it, without opening data.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.mutations import Case, case
from jobs import specfile
from jobs.base import Spec
from jobs.paths import absolute
from jobs.remarks import remarks
from jobs.spec import JobSpec
from jobs.specfile import SpecError
from tuning.spec.check import check
from tuning.spec.search import SearchSpec

CHUNK = 250
SLOW_S, HANG_S, LONG = 1.0, 120, 20_000
COLUMNS = ("refused", "accepted", "crashed", "unlocated", "unprintable", "slow")
IMAGES, SIZE = 50_000, 32
"""Images of the training split, and their pixels, that an accepted job's remarks are of."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``refused``, ``accepted`` or ``crashed``; its flaws, CPU seconds, and what was said."""

    what: str
    flaws: tuple[str, ...]
    seconds: float
    message: str


def attempt(tried: Case, folder: Path) -> Outcome:
    """Read a case, and use it as far as that needs no data."""
    path = folder / "spec.yaml"
    path.write_bytes(tried.content)
    began, located = time.process_time(), True
    try:
        with _deadline(), warnings.catch_warnings():
            warnings.simplefilter("error")
            spec, message = _use(path, tried)
            seconds = time.process_time() - began
            _round_trip(spec, path)
        what = "accepted"
    except SpecError as error:
        what, message, seconds = "refused", str(error), time.process_time() - began
        located = all(problem.source for problem in error.problems)
    except Exception as error:  # whatever it is: it is counted
        what, message, seconds = "crashed", f"{type(error).__name__}: {error}", 0.0
    printable = len(message) <= LONG and all(map(str.isprintable, message.replace("\t", "").split("\n")))
    wrong = {"unlocated": not located, "unprintable": not printable, "slow": seconds > SLOW_S}
    return Outcome(what, tuple(flaw for flaw in wrong if wrong[flaw]), seconds, message)


def _use(path: Path, tried: Case) -> tuple[Spec, str]:
    """Read a spec and do what a dry run does with it before it opens data; the spec, and remarks."""
    spec = specfile.read(path, tried.kind, tried.overrides)
    if isinstance(spec, SearchSpec):
        return spec, "\n".join(check(spec))
    assert isinstance(spec, JobSpec)
    try:
        spec = absolute(spec)
        steps = spec.steps(IMAGES)
    except ValueError as error:  # a URL with a password, a batch larger than the split
        return spec, str(error)
    for update in (1, steps.total // 2 + 1, steps.total):
        rate = spec.lr_at(update, steps)
        assert 0 <= rate < float("inf"), f"learning rate {rate} at update {update}"
    return spec, "\n".join(remarks(spec, steps, SIZE))


def _round_trip(spec: Spec, path: Path) -> None:
    path.write_text(specfile.dump(spec), encoding="utf-8")
    assert specfile.read(path, type(spec)) == spec, "its dump is another spec"
    json.dumps(spec.flatten(), allow_nan=False)


@contextmanager
def _deadline() -> Iterator[None]:
    """TimeoutError after ``HANG_S`` seconds."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not finished after {HANG_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def chunk(seed: int, start: int, count: int) -> dict[str, Any]:
    """Cases ``start`` to ``start + count``: outcomes, the slowest, the bad ones, and some accepted ones."""
    counts: Counter[str] = Counter()
    bad, accepted, slowest = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(start, start + count):
            found = attempt(case(seed, number), Path(folder))
            counts.update((found.what, *found.flaws))
            slowest = max(slowest, found.seconds)
            if found.flaws or found.what == "crashed":
                words = " ".join((found.what, *found.flaws))
                bad.append({"number": number, "what": words, "message": ascii(found.message)[:300]})
            elif found.what == "accepted":
                accepted.append(number)
    row = {"seed": seed, "start": start, "count": count, "counts": counts, "slowest": slowest}
    return row | {"bad": bad, "accepted": accepted[:5]}


def run(count: int, seed: int, state: Path, processes: int) -> list[dict[str, Any]]:
    """The results of all chunks: those that ``state`` has, and those that are tried now and added to it."""
    lines = state.read_text(encoding="utf-8").splitlines() if state.exists() else []
    done = {(row["start"], row["count"]): row for row in map(json.loads, lines) if row["seed"] == seed}
    chunks = [(start, min(CHUNK, count - start)) for start in range(0, count, CHUNK)]
    with ProcessPoolExecutor(processes) as pool, state.open("a", encoding="utf-8") as file:
        for tried in as_completed([pool.submit(chunk, seed, *each) for each in chunks if each not in done]):
            row = tried.result()
            done[row["start"], row["count"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
    return [done[each] for each in chunks]


def table(rows: list[dict[str, Any]]) -> str:
    """The counts of each outcome, then the bad cases."""
    counts = sum((Counter(row["counts"]) for row in rows), Counter[str]())
    lines = [f"{'tried':12} {sum(row['count'] for row in rows):,}"]
    lines += [f"{what:12} {counts[what]:,}" for what in COLUMNS]
    lines.append(f"{'slowest':12} {max(row['slowest'] for row in rows):.2f} s")
    lines += [f"{bad['number']} {bad['what']}: {bad['message']}" for row in rows for bad in row["bad"]]
    return "\n".join(lines)


def show(seed: int, number: int) -> str:
    """A case, and the message."""
    tried = case(seed, number)
    with tempfile.TemporaryDirectory() as folder:
        found = attempt(tried, Path(folder))
    rows = [tried.origin, tried.content.decode("utf-8", "backslashreplace"), *map(ascii, tried.overrides)]
    return "\n".join([*rows, f"{' '.join((found.what, *found.flaws))}, {found.seconds:.2f} s", found.message])


def main() -> None:
    """Print what became of the cases; exit code 1 if any is bad."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("fuzz.jsonl"), help="file of what was tried")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--show", type=int, metavar="NUMBER", help="print one case and the message")
    given = parser.parse_args()
    if given.show is not None:
        print(show(given.seed, given.show))
        return
    rows = run(given.count, given.seed, given.state, given.processes)
    print(table(rows))
    sys.exit(any(row["bad"] for row in rows))


if __name__ == "__main__":
    main()

"""Memory of a job with CIFAR-10 in the object store, as PSS: the data exists once a node, however many workers.

PSS counts a page that n processes share as 1/n in each, so a sum over processes counts every page once. Each number of
workers runs on a small part of CIFAR-10 and on all of it, by turns; the difference is what the data takes.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from pathlib import Path

from benchmarks import world
from benchmarks.measure import header, number, options, out, recipe, table, workplace

FEW, FEW_EPOCHS = 2_000, 8
PIXELS = 32 * 32 * 3
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)$")


def mapped(pid: int) -> Counter[str]:
    """MB of a process: ``store rss``, ``store pss`` (mappings of Ray's object store) and ``own pss`` (all others)."""
    sizes: Counter[str] = Counter()
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return sizes
    kind = "own"
    for line in lines:
        if found := _MAPPING.match(line):
            kind = "store" if "plasma" in found[1] else "own"
        elif line.startswith(("Rss:", "Pss:")):
            name, size, _ = line.split()
            sizes[f"{kind} {name[:3].lower()}"] += int(size) / 1024  # type: ignore[assignment]
    return sizes


def measure(folder: Path, name: str, workers: int, images: int, epochs: int) -> dict[str, float]:
    """MB after so many epochs, by whose and what."""
    size = [f"resources.workers={workers}", "resources.cpus_per_worker=0.5", "model.depth=8"]
    spec = recipe(folder, images, *size)
    with world.ray(name, folder, workers, "benchmarks.ours:worker", spec) as job:
        for _ in range(epochs):
            job.segment()
        sizes = {process.pid: mapped(process.pid) for process in job.tree()}
        training = [sizes[pid] for pid in job.pids.values()]
        driver = sizes[job.process.pid]
    return {
        "store pss, all": sum(each["store pss"] for each in sizes.values()),
        "store rss, workers": sum(each["store rss"] for each in training),
        "own, workers": sum(each["own pss"] for each in training),
        "own, driver": driver["own pss"],
        "all": sum(each["store pss"] + each["own pss"] for each in sizes.values()),
    }


def main() -> None:
    parser = options(__doc__, pairs=3)
    parser.add_argument("--images", type=int, default=45_000, help="training images of the large data set")
    given = parser.parse_args()
    counts = (1, 2, 4)
    if given.quick:
        counts, given.images, given.pairs = (1, 2), 20_000, 1
    header(given)
    rows = []
    with workplace() as folder:
        for workers in counts:
            pairs = []
            for turn in range(given.pairs):
                few = measure(folder, f"few{workers}-{turn}", workers, FEW, FEW_EPOCHS)
                many = measure(folder, f"many{workers}-{turn}", workers, given.images, 1)
                pairs.append((few, many))
                out.print(f"{workers} workers: " + ", ".join(f"{key} {few[key]:.0f} -> {many[key]:.0f}" for key in few))
            more = {key: [many[key] - few[key] for few, many in pairs] for key in pairs[0][0]}
            whole = statistics.median(many["all"] for _, many in pairs)
            rows.append([str(workers), *(_cell(values) for values in more.values()), number(0)(whole)])
    held = (given.images / 0.9 - FEW / 0.9 + max(1000, given.images // 9) - 1000) * PIXELS / 2**20
    columns = ["object store, PSS", "object store, RSS of workers", "workers' own", "driver's own", "all", "all in all"]
    title = f"MB that {held:.0f} MB more of images add: median (min .. max) of {given.pairs}; last: the whole job"
    table(title, "workers", columns, rows)


def _cell(values: list[float]) -> str:
    form = number(0)
    return f"{form(statistics.median(values))} ({form(min(values))} .. {form(max(values))})"


if __name__ == "__main__":
    main()

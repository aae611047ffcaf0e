"""Images a second between evaluations: our loop, and the whole job on Ray, against bare DDP and the usual loop.

Goals: at least 0.97 of a bare DDP loop with the same model, batch, precision, layout, threads, augmentation and
allocator; at least twice the loop as people write it.
"""

from __future__ import annotations

from functools import partial

from benchmarks import world
from benchmarks.measure import SPREAD, Spread, header, number, options, out, recipe, table, workplace

WARM_UP = 1
"""Segments of each world that are not counted."""


def main() -> None:
    parser = options(__doc__, pairs=9)
    parser.add_argument("--images", type=int, default=10_000, help="training images, an epoch of which is a segment")
    parser.add_argument("--batch", type=int, default=128, help="global batch")
    parser.add_argument("--workers", type=int, default=2, help="training processes")
    parser.add_argument("--loader-workers", type=int, default=2, help="loader processes a worker of the usual loop")
    given = parser.parse_args()
    if given.quick:
        given.pairs, given.images = 2, 1024
    header(given)
    with workplace() as folder:
        size = [f"batch_size={given.batch}", f"resources.workers={given.workers}"]
        spec = recipe(folder, given.images, *size)
        few = recipe(folder, max(given.batch, given.images // 2), *size)
        loops, equal = "benchmarks.loops", world.allocator()
        workers = given.workers
        starts = {
            "ours, torchrun": partial(world.torchrun, "ours", folder, workers, "benchmarks.ours", str(spec), **equal),
            "ours, Ray": partial(world.ray, "ray", folder, workers, "benchmarks.ours:worker", spec),
            "bare DDP": partial(world.torchrun, "bare", folder, workers, loops, "bare", str(spec), **equal),
            "usual loop": partial(
                *(world.torchrun, "usual", folder, workers, loops, "usual", str(few), str(given.loader_workers))
            ),
        }
        rates: dict[str, list[float]] = {name: [] for name in starts}
        with world.together(*starts.values()) as worlds:
            named = list(zip(starts, worlds, strict=True))
            for turn in range(WARM_UP + given.pairs):
                for name, each in named if turn % 2 else named[::-1]:
                    rate = each.rate()
                    if turn >= WARM_UP:
                        rates[name].append(rate)
                shown = ", ".join(f"{name} {values[-1]:.0f}" for name, values in rates.items() if values)
                out.print(f"turn {turn}: {shown or 'warm-up'}")
    form = number(0)
    table(
        f"images/s, ResNet-20, batch {given.batch}, {given.workers} workers of one thread",
        *("loop", SPREAD, [[name, *Spread.of(values).cells(form)] for name, values in rates.items()]),
    )
    rows = []
    for above in ("ours, torchrun", "ours, Ray"):
        for below, goal in (("bare DDP", "0.97"), ("usual loop", "2")):
            rows.append([f"{above} / {below}", *Spread.ratio(rates[above], rates[below]).cells(number(3)), goal])
    table("ratios of images/s, by turns", "ratio", [*SPREAD, "goal at least"], rows)


if __name__ == "__main__":
    main()

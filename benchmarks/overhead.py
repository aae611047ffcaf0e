"""Share of a step spent on the journal and on checkpoints, in a job on Ray.

The epochs of one run have them and do without in turns. An epoch that has them reports all it would report, saves
itself on the cadence and at its end, and ends only when its last checkpoint is on the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import ours, world
from benchmarks.gate import Gate, Gated
from benchmarks.measure import SPREAD, Spread, header, number, options, out, percent, recipe, table, workplace
from jobs.report import Record, Verdict

WARM_UP = 1
"""Pairs of epochs that are not counted."""


class Alternating(Gated):
    """Passes on what even epochs say, and times it."""

    def __init__(self, report: Any, gate: Gate) -> None:
        super().__init__(report, gate)
        self.epoch, self.reports_s, self.reports = -1, 0.0, 0

    def passed(self, method: Callable[[Any], Any], message: Any) -> None:
        """Nothing in odd epochs."""
        if self.epoch % 2:
            return
        began = time.perf_counter()
        super().passed(method, message)
        self.reports_s += time.perf_counter() - began
        self.reports += 1

    def record(self, records: Sequence[Record]) -> Verdict:
        self.passed(self.report.record, records)
        if any(record.name == "train/loss" for record in records):
            if not self.epoch % 2:
                self.report.store.wait()
            self._begin()
        return self._verdict()

    def pause(self) -> bool:
        """Tell what was timed."""
        go = self.gate.pause(self.per_epoch, reports_s=self.reports_s, reports=self.reports, **States.take())
        self.epoch, self.reports_s, self.reports = self.epoch + 1, 0.0, 0
        return go


class States:
    """Times what the training thread spends on taking snapshots."""

    seconds, count = 0.0, 0

    @classmethod
    def take(cls) -> dict[str, float]:
        taken = {"states_s": cls.seconds, "states": cls.count}
        cls.seconds, cls.count = 0.0, 0
        return taken


def worker(config: dict[str, Any]) -> dict[str, Any]:
    """Body of a worker whose odd epochs have no checkpoints."""
    from jobs.run import Run

    real = Run.state

    def state(run: Run) -> Any:
        if (run.step - 1) // run.steps.per_epoch % 2:
            return None
        began = time.perf_counter()
        taken = real(run)
        States.seconds += time.perf_counter() - began
        States.count += 1
        return taken

    Run.state = state  # type: ignore[method-assign]
    return ours.worker(config, Alternating)


def main() -> None:
    parser = options(__doc__, pairs=9)
    parser.add_argument("--images", type=int, default=10_000, help="training images, an epoch of which is a segment")
    parser.add_argument("--every-steps", type=int, default=39, help="updates between checkpoints inside an epoch")
    given = parser.parse_args()
    if given.quick:
        given.pairs, given.images, given.every_steps = 2, 1024, 4
    header(given)
    every = [f"checkpoint.every_steps={given.every_steps}", "checkpoint.every_epochs=1"]
    pairs = []
    with workplace() as folder:
        spec = recipe(folder, given.images, *every)
        with world.ray("overhead", folder, 2, "benchmarks.overhead:worker", spec) as job:
            for turn in range(WARM_UP + given.pairs):
                having, without = job.segment(), job.segment()
                assert having["states"] > 0 == without["states"], "even epochs alone save themselves"
                out.print(f"turn {turn}: {having['seconds']:.2f} s with, {without['seconds']:.2f} s without")
                if turn >= WARM_UP:
                    pairs.append((having, without))
    having = [a for a, _ in pairs]
    steps = having[0]["images"] / 128
    states = sum(a["states"] for a in having) / len(having)
    more = [a["seconds"] / b["seconds"] - 1 for a, b in pairs]
    title = f"an epoch of {steps:.0f} steps with {states:.0f} checkpoints and all reports, in all and on the spot"
    table(
        *(title, "", SPREAD),
        [
            ["longer than one without", *Spread.of(more).cells(percent)],
            ["snapshots, share of the time", *Spread.of([a["states_s"] / a["seconds"] for a in having]).cells(percent)],
            ["reports, share of the time", *Spread.of([a["reports_s"] / a["seconds"] for a in having]).cells(percent)],
            ["ms a snapshot", *Spread.of([1e3 * a["states_s"] / a["states"] for a in having]).cells(number(2))],
            ["ms a report", *Spread.of([1e3 * a["reports_s"] / a["reports"] for a in having]).cells(number(2))],
            ["s an epoch without", *Spread.of([b["seconds"] for _, b in pairs]).cells(number(2))],
        ],
    )


if __name__ == "__main__":
    main()

"""What ranks send each other while they train, so that all of them continue or stop at the same update."""

from __future__ import annotations

from jobs.report import STOP, Progress, Report
from jobs.run import Run
from jobs.watch import Watch

CONTINUE, END, LEAVE, BROKEN = 0, 1, 2, 3
"""Continue; end cleanly with what there is; stop here; a loss is not finite. The largest of all ranks counts."""


def message(run: Run, watch: Watch, report: Report, rate: float) -> int:
    """What this rank sends to the others; rank 0 reports progress at ``rate`` images a second."""
    if not watch.finite:
        return BROKEN
    if run.place.rank:
        return CONTINUE
    epoch = min(run.step // run.steps.per_epoch, run.spec.epochs - 1)
    progress = Progress(run.step, run.steps.total, epoch + 1, run.spec.epochs, watch.latest, rate, run.spec.batch_size)
    if report.progress(progress) is STOP:
        return LEAVE
    return END if run.finished() == "budget" else CONTINUE


def save(run: Run, report: Report) -> None:
    """Send the report a checkpoint; every rank calls it, rank 0 has the state."""
    state = run.state()
    if state is not None:
        report.save(state)

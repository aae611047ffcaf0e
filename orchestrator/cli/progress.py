"""What a person sees during a run: a table and a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from jobs.names import printable_lines
from jobs.report import Progress
from jobs.spec import JobSpec
from jobs.words import duration
from orchestrator.runs.standing import Standing
from orchestrator.tracking.state import State

_PLAIN = ("train/loss", "val/loss", "val/top1", "lr", "images_per_s", "epoch_s")
_COLUMNS = (
    ("epoch", 9, "", ""),
    ("loss", 8, "train/loss", ".4f"),
    ("val loss", 9, "val/loss", ".4f"),
    ("val top-1", 10, "val/top1", ".2%"),
    ("lr", 10, "lr", ".3g"),
    ("images/s", 9, "images_per_s", ",.0f"),
    ("s", 8, "epoch_s", ",.1f"),
)
"""Of the table on a terminal: title, width, metric, format; 70 characters in all."""
_RECENT = 5
"""Epochs whose median time says how long the rest takes."""
_BAR = 30


class Display:
    """Call it with every state of the recorder, and :meth:`tell` with what happens before and after.

    Attributes:
        standing: how the run stands, by what was shown.
    """

    def __init__(self, console: Console, spec: JobSpec) -> None:
        self.console, self.spec = console, spec
        self.standing = Standing(spec.name, "epochs", in_all=spec.epochs)
        self._spinner = Spinner("dots")
        self._doing = ""
        self._progress: Progress | None = None
        self._epochs_s: list[float] = []
        self._titled = self._trained = False
        self._trouble: str | None = None
        self._stopping = False
        self._live = Live(console=console, transient=True, refresh_per_second=8, get_renderable=self._render)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def tell(self, text: str, lasting: bool = False) -> None:
        """Say what is being done; on a terminal it goes away again unless it is ``lasting``."""
        self._progress = None
        if lasting or not self.console.is_terminal:
            self._print(text)
        if lasting:  # it may be another run that begins, such as a teacher's
            self._trained, self._epochs_s = False, []
        else:
            self._doing = text

    def __call__(self, state: State) -> None:
        """Show what is new."""
        in_all = state.progress.epochs if state.progress else self.spec.epochs
        epochs: dict[int, dict[str, float]] = {}
        for record in state.records:
            if not record.name.startswith("test/"):
                epochs.setdefault(record.step, {})[record.name] = record.value
        for epoch, values in sorted(epochs.items()):
            self._epoch(f"{epoch}/{in_all}", values)
            self._epochs_s += [values["epoch_s"]] if "epoch_s" in values else []
            best = [at for at in (self.standing.best, values.get("val/top1")) if at is not None and math.isfinite(at)]
            self.standing = replace(self.standing, done=epoch, in_all=in_all, best=max(best, default=None))
        if epochs:
            self.standing.publish()
        if state.trouble and state.trouble != self._trouble:
            self._trouble = state.trouble
            self._print(f"tracking: {state.trouble}")
        if state.stopping and not self._stopping:
            self._stopping = True
            self._print("stopping: a checkpoint is written; interrupt again to leave at once")
        if in_all in epochs:
            self._trained = True
            self.tell("scoring the test split, keeping the model")
        if not self._trained:
            self._progress = state.progress

    def _epoch(self, epoch: str, values: dict[str, float]) -> None:
        if not self.console.is_terminal:
            shown = "  ".join(f"{name} {values[name]:.4g}" for name in _PLAIN if name in values)
            self._print(f"epoch {epoch:>7}  {shown}")
            return
        if not self._titled:
            self._titled = True
            self.console.print("".join(f"{title:>{width}}" for title, width, *_ in _COLUMNS), style="bold")
        cells = (f"{values[name]:{form}}" if name in values else "" for _, _, name, form in _COLUMNS[1:])
        widths = (width for _, width, *_ in _COLUMNS)
        self._print("".join(f"{cell:>{width}}" for cell, width in zip([epoch, *cells], widths, strict=True)))

    def _print(self, text: str) -> None:
        self.console.print(printable_lines(text), markup=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        at = self._progress
        if at is None:
            row.add_row(self._spinner, Text(printable_lines(self._doing)))
            return row
        epoch, facts = f"epoch {at.epoch}/{at.epochs}", [f"{at.step / at.steps:.0%}"]
        left = seconds_left(at, self._epochs_s[-_RECENT:])
        begun = not math.isnan(at.loss)  # before, the pace is that of a single first update
        if left is not None and (begun or self._epochs_s):
            facts.append(f"{duration(left)} left")
        if begun:
            facts += [f"loss {at.loss:.4f}", f"{at.images_per_s:,.0f} images/s"]
        room = self.console.width - len(epoch) - 4  # the spinner, and a space between any two
        while len(facts) > 1 and len("  ".join(facts)) > room:
            facts.pop()
        text = "  ".join(facts)
        bar = min(_BAR, room - len(text) - 1)
        row.add_row(self._spinner, epoch, *([ProgressBar(at.steps, at.step, width=bar)] if bar >= 5 else []), text)
        return row


def seconds_left(at: Progress, epochs_s: list[float]) -> float | None:
    """Seconds until the last epoch is done: by the time that whole epochs took, evaluation and all, once there are any.

    Args:
        at: where the run is.
        epochs_s: seconds of the epochs to go by; where there are none, the pace of training alone is gone by.
    """
    if epochs_s:
        return (1 - at.step / at.steps) * at.epochs * statistics.median(epochs_s)
    return (at.steps - at.step) * at.batch_size / at.images_per_s if at.images_per_s else None

"""What a person sees while a run goes on: a live line on a terminal, a plain line an epoch everywhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from jobs.report import Progress
from jobs.spec import JobSpec
from orchestrator.tracking.recorder import State

_SHOWN = ("train/loss", "val/loss", "val/top1", "lr", "images_per_s", "epoch_s")


class Display:
    """Call it with every state of the recorder."""

    def __init__(self, console: Console, spec: JobSpec) -> None:
        self.console, self.spec = console, spec
        self._status = Status("opening the data, starting the workers", console=console)
        self._trouble: str | None = None
        self._stopping = False

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def __call__(self, state: State) -> None:
        """Show what is new."""
        epochs: dict[int, dict[str, float]] = {}
        for record in state.records:
            if not record.name.startswith("test/"):
                epochs.setdefault(record.step, {})[record.name] = record.value
        for epoch, values in sorted(epochs.items()):
            shown = "  ".join(f"{name} {values[name]:.4g}" for name in _SHOWN if name in values)
            if shown:
                self.console.print(f"epoch {epoch:>3}/{self.spec.epochs}  {shown}", markup=False, soft_wrap=True)
        if state.trouble and state.trouble != self._trouble:
            self._trouble = state.trouble
            self.console.print(f"tracking: {state.trouble}", markup=False, soft_wrap=True)
        if state.stopping and not self._stopping:
            self._stopping = True
            self.console.print("stopping: a checkpoint is written; interrupt again to leave at once", soft_wrap=True)
        if state.progress:
            self._status.update(_line(state.progress))


def _line(at: Progress) -> str:
    per_update = at.images_per_s and (at.steps - at.step) / at.images_per_s
    left = f"  {per_update * at.batch_size / 60:.1f} min left" if per_update else ""
    place = f"epoch {at.epoch}/{at.epochs}  update {at.step}/{at.steps}"
    return f"{place}  loss {at.loss:.4f}  {at.images_per_s:.0f} images/s{left}"

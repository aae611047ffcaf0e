"""No early end."""

from __future__ import annotations

from typing import ClassVar, Literal

from tuning.schedulers.scheduler import Policy, Scheduler
from tuning.spec.objective import Mode


class Patient(Scheduler):
    """Never stops a trial."""

    def _judge(self, ordinal: int, epoch: int, value: float) -> bool:
        return False


class NoScheduler(Policy):
    """Let every trial have its epochs."""

    by_metric: ClassVar[bool] = False
    kind: Literal["none"] = "none"

    def build(self, mode: Mode, epochs: int | None = None) -> Scheduler:
        """The scheduler."""
        return Patient(mode, epochs)

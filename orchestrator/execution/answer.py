"""How the training of a run ended, as it travels from the worker to the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from orchestrator.execution.failures import Kind, kind_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from orchestrator.tracking.state import Status

STOPPED: Final = "stopped"
"""``ended_by`` of a run that was stopped from outside and can be resumed."""
INTERRUPTED_TWICE: Final = "interrupted twice"
"""``ended_by`` of a run whose workers were not waited for: they may still be running."""


@dataclass(frozen=True)
class Answer:
    """Rank 0's answer, or what the driver found in its place; either ``ended_by`` is set, or ``failure`` and ``kind``.

    Attributes:
        ended_by: ``epochs``, ``early_stopping``, ``budget``, ``diverged``, ``stopped``, or ``interrupted twice``.
        failure: why it failed, in one line; it would fail again however often it is tried.
        kind: of the failure.
        metrics: ``test/...`` -> value; empty unless the run came to its end.
        confusion: counts ``(true class, predicted class)``; None where the run did not come to its end, or has too many
            classes.
    """

    ended_by: str | None = None
    failure: str | None = None
    kind: Kind | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    confusion: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        assert (self.ended_by is None) != (self.failure is None) == (self.kind is None), self

    @classmethod
    def of(cls, error: BaseException, cause: str | None = None) -> Self:
        """The answer of a run that an exception ended; ``cause`` says it in other words."""
        return cls(failure=cause or f"{type(error).__name__}: {error}", kind=kind_of(error))

    @property
    def status(self) -> Status:
        """Of the run: FAILED, KILLED where it was stopped from outside, else FINISHED."""
        if self.failure is not None:
            return "FAILED"
        return "KILLED" if self.ended_by in (STOPPED, INTERRUPTED_TWICE) else "FINISHED"

    @property
    def cause(self) -> str:
        """What ended it: ``failure`` or ``ended_by``."""
        return self.failure or self.ended_by or ""


NO_ANSWER: Final = Answer(failure="Ray Train ended without an answer", kind="bug")

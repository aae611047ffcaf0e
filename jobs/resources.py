"""What one job takes of the machine or cluster."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from jobs.base import Spec


class Elastic(Spec):
    """A number of workers that follows the size of the cluster."""

    min: PositiveInt = 1
    """Fewest workers to train with."""
    max: PositiveInt
    """Most workers; the global batch is always cut into this x accumulation parts."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}; swap them")
        return self


class Resources(Spec):
    """Workers and hardware of one job."""

    workers: PositiveInt | Elastic = 1
    """Training processes; the global batch is divided among them. At equal workers x accumulation results are equal but
    for rounding; another product changes which images are mixed with each other and normalised together, nothing else.
    With ``min`` and ``max`` as many as the cluster has room for, of the numbers that divide ``parts``: a node that is
    lost takes its workers with it, accumulation makes up for them, and they return with it."""
    cpus_per_worker: float = Field(1, ge=0.01)
    """CPUs reserved for a worker, which are its number of threads too."""
    use_gpu: Literal["auto"] | bool = "auto"
    """One GPU for each worker (true), none (false), or one where the cluster has enough (auto)."""
    max_failures: int = Field(3, ge=0, le=1000)
    """Restarts in a row, with no epoch between them, after a worker or its controller died; one more and the run has
    failed. Lost nodes do not count."""
    wait_minutes: float = Field(30, ge=0, le=43_200)
    """Minutes to wait for room in the cluster, at the start and after a node was lost, before the run has failed."""

    @property
    def threads(self) -> int:
        """Of each worker."""
        return max(1, int(self.cpus_per_worker))

    @property
    def most(self) -> int:
        """Largest number of workers."""
        return self.workers.max if isinstance(self.workers, Elastic) else self.workers

    @property
    def fewest(self) -> int:
        """Smallest number of workers."""
        return self.workers.min if isinstance(self.workers, Elastic) else self.workers

"""How a training set, a global batch and a number of epochs make updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.spec import JobSpec


@dataclass(frozen=True)
class Steps:
    """Updates an epoch and in all, and images a part.

    The last, incomplete batch of an epoch is left out; since every epoch has an order of its own, it is other
    images each time.
    """

    per_epoch: int
    total: int
    part: int

    @classmethod
    def of(cls, spec: JobSpec, samples: int) -> Steps:
        """The steps of ``spec`` on a training split of ``samples`` images.

        Raises:
            ValueError: there are fewer images than one global batch.
        """
        if samples < spec.batch_size:
            raise ValueError(
                f"batch_size {spec.batch_size} is more than the {samples} images of the training split; "
                f"set batch_size to at most {samples - samples % spec.parts}"
            )
        per_epoch = samples // spec.batch_size
        return cls(per_epoch, per_epoch * spec.epochs, spec.batch_size // spec.parts)

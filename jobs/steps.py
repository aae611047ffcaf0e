"""How a training set, a global batch and a number of epochs make updates."""

from __future__ import annotations

from dataclasses import dataclass


class UnfitError(ValueError):
    """The spec does not fit the data."""


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
    def of(cls, samples: int, batch_size: int, parts: int, epochs: int) -> Steps:
        """The steps of ``epochs`` passes over ``samples`` images, in batches of ``batch_size`` that are cut into
        ``parts``.

        Raises:
            UnfitError: there are fewer images than one global batch.
        """
        if samples < batch_size:
            raise UnfitError(
                f"batch_size {batch_size} is more than the {samples} images of the training split; "
                f"set batch_size to at most {samples - samples % parts}"
            )
        per_epoch = samples // batch_size
        return cls(per_epoch, per_epoch * epochs, batch_size // parts)

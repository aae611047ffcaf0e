"""What a batch trick is: ``trick(x, y, generator, at) -> (x, y)``.

A trick that pairs images draws for a part of the global batch as a whole (:class:`Mixing`); one that changes each image
by itself (:class:`PerSample`) draws by the image's place in the global batch, so the number of parts changes nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeInt

from jobs.base import Spec
from jobs.randomness import SampleDraws, generator

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class At:
    """Where the run is: ``epoch``, ``step`` from 0, ``part`` of the global batch, ``epochs`` and ``steps`` in all."""

    epoch: int
    step: int
    part: int
    epochs: int
    steps: int


class BatchTrick(Spec):
    """A trick on a batch of images and soft targets."""

    kind: str
    """Its name in a spec."""

    def source(self, seed: int, at: At) -> torch.Generator:
        """The generator that the trick draws from at a place of the run; ``seed`` is ``seed.data`` of the spec."""
        return generator(seed, self.kind, at.step, at.part)

    @abstractmethod
    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, at: At
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch after the trick; the inputs are left alone.

        Args:
            x: float ``(N, C, H, W)``, normalised.
            y: float ``(N, K)``, rows sum to 1.
            generator: on the CPU, this trick's own at this place of the run, as :meth:`source` gives it.
            at: the place; all parts of a batch have ``N`` images.
        """


class PerSample(BatchTrick):
    """A trick that changes every image by draws of its own, whatever the parts of the batch."""

    def source(self, seed: int, at: At) -> torch.Generator:
        """One generator for all parts of the batch."""
        return generator(seed, self.kind, at.step)

    def draws(self, count: int, generator: torch.Generator, at: At) -> SampleDraws:
        """The draws of the ``count`` images of a part, by their places in the global batch."""
        import torch

        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        return SampleDraws(seed, at.step, torch.arange(count) + at.part * count)


class Mixing(BatchTrick):
    """A trick that mixes images of a batch with each other; ``jobs.batch.turns`` lets at most one act on a batch."""

    share: float = Field(1.0, ge=0, le=1)
    """Share of the batches that this trick mixes; at most one mixing trick acts on a batch."""
    off_epochs: NonNegativeInt = 0
    """Number of last epochs without this trick."""

    def off(self, at: At) -> bool:
        """Whether the run is in the last epochs, which train without this trick."""
        return at.epoch >= at.epochs - self.off_epochs

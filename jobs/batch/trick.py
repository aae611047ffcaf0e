"""What a batch trick is: ``trick(x, y, generator, at) -> (x, y)``."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.base import Spec

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

    @abstractmethod
    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, at: At
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch after the trick; the inputs are left alone.

        Args:
            x: float ``(N, C, H, W)``, normalised.
            y: float ``(N, K)``, rows sum to 1.
            generator: on the CPU, this trick's own at this place of the run.
            at: the place.
        """

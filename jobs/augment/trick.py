"""What an augmentation is: ``trick(images, draws) -> images`` on uint8 images, each image by its own draws."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from jobs.base import Spec

if TYPE_CHECKING:
    import torch

    from jobs.randomness import SampleDraws


class Augmentation(Spec):
    """A trick on single images.

    The same call serves a whole batch on the device (images in memory) and one image in a loader worker (streamed ones,
    N = 1); since draws are a function of the sample, both give the same pixels.
    """

    resizes: ClassVar[bool] = False
    """Whether the trick takes images of any size and gives ``size`` x ``size`` ones; such a trick must come first."""

    @abstractmethod
    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """The images after the trick; the input is left alone, and nothing waits for the device.

        Args:
            images: uint8 ``(N, H, W, C)``.
            draws: the random numbers of these samples; ``draws.host`` for what Python decides by them.
            size: height and width in pixels that the model is fed.
        """

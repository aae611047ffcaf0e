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

    It is called on whole batches, on the device. Draws are a function of the sample, so the batch changes no image.
    """

    resizes: ClassVar[bool] = False
    """Whether the trick takes images of any size and gives ``size`` x ``size`` ones; such a trick must come first. It
    says which part of an image it takes (:meth:`boxes`), so that loader processes need decode and resize nothing else.
    """

    def boxes(self, draws: SampleDraws, room: torch.Tensor) -> torch.Tensor:
        """The part of each image that a trick which ``resizes`` takes, int64 ``(N, 4)``: top, left, height, width.

        Args:
            draws: the random numbers of these samples.
            room: height and width of each image, int64 ``(N, 2)`` on the CPU.
        """
        raise NotImplementedError(f"{type(self).__name__} takes images of one size")

    @abstractmethod
    def __call__(self, images: torch.Tensor, draws: SampleDraws, size: int) -> torch.Tensor:
        """The images after the trick; the input is left alone, and nothing waits for the device.

        Args:
            images: uint8 ``(N, H, W, C)``.
            draws: the random numbers of these samples; ``draws.host`` for what Python decides by them.
            size: height and width in pixels that the model is fed.
        """

"""Augmentations of single images, applied in the order in which the spec lists them."""

from typing import Annotated

from pydantic import Field

from jobs.augment.crop import Crop
from jobs.augment.flip import Flip
from jobs.augment.trick import Augmentation

AugmentSpec = Annotated[Crop | Flip, Field(discriminator="kind")]

__all__ = ["AugmentSpec", "Augmentation", "Crop", "Flip"]

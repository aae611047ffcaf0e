"""Augmentations of single images, applied in the order in which the spec lists them."""

from typing import Annotated

from pydantic import Field

from jobs.augment.aug_mix import AugMix
from jobs.augment.auto_augment import AutoAugment
from jobs.augment.color_jitter import ColorJitter
from jobs.augment.crop import Crop
from jobs.augment.flip import Flip
from jobs.augment.pca_noise import PCANoise
from jobs.augment.rand_augment import RandAugment
from jobs.augment.random_resized_crop import RandomResizedCrop
from jobs.augment.three_augment import ThreeAugment
from jobs.augment.trick import Augmentation
from jobs.augment.trivial_augment import TrivialAugment

AugmentSpec = Annotated[
    AugMix
    | AutoAugment
    | ColorJitter
    | Crop
    | Flip
    | PCANoise
    | RandAugment
    | RandomResizedCrop
    | ThreeAugment
    | TrivialAugment,
    Field(discriminator="kind"),
]

__all__ = [
    "AugMix",
    "AugmentSpec",
    "Augmentation",
    "AutoAugment",
    "ColorJitter",
    "Crop",
    "Flip",
    "PCANoise",
    "RandAugment",
    "RandomResizedCrop",
    "ThreeAugment",
    "TrivialAugment",
]

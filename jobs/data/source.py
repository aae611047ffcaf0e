"""The fields every data source shares, and how train is divided."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Len
from pydantic import Field, NonNegativeInt, PositiveFloat, ValidationInfo, field_validator

from jobs.base import Spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobs.data.sets import Data
    from jobs.data.store import Store

LARGEST = 16_384
"""Largest height and width of a network's input, in pixels."""
Channels = Annotated[tuple[float, ...], Len(1, 3)]


class Source(Spec):
    """The fields that every data source has."""

    size: int | None = Field(None, gt=0, le=LARGEST)
    """Height and width in pixels of the model's input; None keeps the size of the images, which must then all be
    equal."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; images of another mode are converted. None keeps the channels of the images."""
    test_size: int | None = Field(None, gt=0, le=LARGEST)
    """Height and width of the validation and test images in pixels; None is ``size``. A network that looks at random
    resized crops in training sees objects larger there, so a larger test size helps it (FixRes, arXiv 1906.06423)."""
    crop_ratio: float = Field(1.0, ge=0.01, le=1)
    """Share of the shorter side that the central square of validation and test images takes; ImageNet's is 0.875."""
    class_weights: Literal["balanced"] | dict[str, PositiveFloat] | None = None
    """Weight of each class in the loss: by name (1 for classes that are not named), or the inverse of its frequency
    (balanced); scaled so that the mean over the training images is 1."""
    balanced_sampling: bool = False
    """Draw every class equally often in an epoch, with replacement, however many images it has."""
    val_fraction: float = Field(0.1, gt=0, lt=1)
    """Share of train that is held out, stratified, as the validation split (where the source has none of its own)."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of all images that is held out, stratified, as the test split (where the source has none of its own)."""
    split_seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the stratified splits."""
    mean: Channels | None = None
    """Per-channel mean of pixels in 0 .. 1 that is subtracted; None measures it on the training split."""
    std: Annotated[tuple[PositiveFloat, ...], Len(1, 3)] | None = None
    """Per-channel standard deviation that is divided by; None measures it on the training split."""
    exif_orientation: bool = True
    """Turn images as their EXIF says, as viewers do (phones store most photographs lying); false takes the pixels as
    they are stored, as torchvision does."""
    in_memory: Literal["auto"] | bool = "auto"
    """Decode once into shared memory (true) or stream from storage every epoch (false); auto decides by size. Training
    images of other sizes than ``size`` are always streamed for random_resized_crop, which cuts from the originals."""
    prepare: Literal["auto", False] | Annotated[int, Field(strict=True, ge=16, le=65536)] = False
    """Make photographs smaller once, to this short side in pixels, and keep them on a disk of every machine that trains
    on them (below ORCHESTRATOR_HOME): training images that are streamed, or cut by random_resized_crop. auto takes 8/7
    of ``size``, where half of the images are at least 1.5 times as large as that; false reads the originals. What is
    scored is always sized from the originals, as images are for predictions."""
    prepare_as: Literal["pixels", "jpeg"] = "pixels"
    """How prepared training images are kept. pixels need not be decoded every epoch and may live on a GPU; jpeg
    (quality 90) takes about a ninth of the disk, for sets whose pixels do not fit, and is decoded every epoch. The
    images differ a little between the two, so a run is not resumed with the other one."""
    loader_workers: int | None = Field(None, ge=0, le=1024)
    """Processes of a training worker that read, decode, cut and resize streamed images; None takes one for each of its
    CPUs (``resources.cpus_per_worker``). They change no result."""
    check: Literal["full", "sizes"] = "full"
    """What is looked at before training. full reads and decodes every image once. sizes, for images that are known to
    be sound, reads names, lengths and the beginning of each file, which gives its shape: a run fails at an image that
    cannot be decoded, copies are not looked for, and ``mean`` and ``std``, unless given, are those of 4,096 training
    images. Images kept in memory, and torchvision's, are decoded anyway."""
    max_corrupt: NonNegativeInt = 0
    """Unreadable images that may be skipped (each is named) before the job is refused. They are skipped before the
    splits are drawn; with ``check: sizes`` those of streamed images are that whose beginning cannot be read, and
    another one still ends the run in its first epoch."""

    @field_validator("mean", "std")
    @classmethod
    def _of_scaled_pixels(cls, value: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        if value is not None and max(value) > 1:
            scaled = ", ".join(f"{each / 255:.4g}" for each in value)
            raise ValueError(
                f"{info.field_name} is of pixels in 0 .. 1, and {max(value):g} is more than 1; if it is of pixels in "
                f"0 .. 255, write [{scaled}]"
            )
        return value

    @abstractmethod
    def stores(self) -> tuple[Sequence[str], Mapping[str, Store], Sequence[str]]:
        """Class names, the images of each split that the source itself has (train, perhaps val and test), and notes.

        Raises:
            ValueError: what is wrong with the data, where, and what to do about it.
        """

    @abstractmethod
    def open(self, resizes: bool | None = None) -> Data:
        """Find, check and (where in memory) decode the images.

        Args:
            resizes: whether a job that is about to train on this machine cuts its images out of larger ones
                (``jobs.augment``): then prepared pixels are made in the same pass. None makes none.

        Raises:
            ValueError: what is wrong with the data, where, and what to do about it.
        """

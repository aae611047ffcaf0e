"""Every augmentation keeps the contract of ``jobs.augment.trick``, at ordinary values and at the ends of its ranges."""

from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter

from jobs.augment import (
    Augmentation,
    AugmentSpec,
    AugMix,
    AutoAugment,
    ColorJitter,
    Crop,
    Flip,
    PCANoise,
    RandAugment,
    RandomResizedCrop,
    ThreeAugment,
    TrivialAugment,
)
from jobs.randomness import SampleDraws, generator

EXAMPLES: list[Augmentation] = [
    AutoAugment(policy="cifar10"),
    AutoAugment(policy="imagenet"),
    AutoAugment(policy="svhn"),
    ColorJitter(),
    ColorJitter(brightness=0, contrast=0, saturation=0, hue=0),
    ColorJitter(brightness=1, contrast=1, saturation=1, hue=0.5),
    Crop(),
    Crop(padding=1),
    Crop(padding=100),
    Flip(),
    Flip(probability=0),
    Flip(probability=1),
    PCANoise(),
    PCANoise(std=0),
    PCANoise(std=10),
    RandAugment(),
    AugMix(),
    AugMix(severity=10, width=10, depth=3, alpha=0.01, all_ops=False),
    AugMix(severity=1, width=1, depth=1, alpha=100.0),
    ThreeAugment(),
    RandAugment(num_ops=1, magnitude=0),
    RandAugment(num_ops=14, magnitude=30),
    RandAugment(num_ops=14, magnitude=10, ops="timm", magnitude_std=10.0),
    RandAugment(ops="timm", magnitude=0, probability=0.0),
    RandomResizedCrop(),
    RandomResizedCrop(scale=(1e-9, 1e-9), ratio=(0.01, 0.01)),
    RandomResizedCrop(scale=(1, 1), ratio=(100, 100)),
    TrivialAugment(),
]
COLOUR_ONLY = (PCANoise,)
SIZE = 8

each = pytest.mark.parametrize("trick", EXAMPLES, ids=lambda trick: trick.model_dump_json())


def images(count: int, channels: int, size: int = SIZE) -> torch.Tensor:
    return torch.randint(256, (count, size, size, channels), generator=generator("images", channels), dtype=torch.uint8)


def draws(*index: int, epoch: int = 2) -> SampleDraws:
    return SampleDraws(1, epoch, torch.tensor(index))


def test_every_kind_has_an_example() -> None:
    assert {type(trick) for trick in EXAMPLES} == set(get_args(get_args(AugmentSpec)[0]))


@each
def test_json_round_trip(trick: Augmentation) -> None:
    assert TypeAdapter(AugmentSpec).validate_json(trick.model_dump_json()) == trick


@each
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 5])
def test_gives_uint8_images_of_the_size(trick: Augmentation, channels: int, count: int) -> None:
    if channels == 1 and isinstance(trick, COLOUR_ONLY):
        with pytest.raises(ValueError, match="needs images in colour"):
            trick(images(count, channels), draws(*range(count)), SIZE)
        return
    size = SIZE + 3 if trick.resizes else SIZE
    got = trick(images(count, channels), draws(*range(count)), size)
    assert (got.shape, got.dtype) == ((count, size, size, channels), torch.uint8)


@each
def test_input_is_left_alone_and_same_place_gives_same_pixels(trick: Augmentation) -> None:
    batch = images(5, 3)
    before, state = batch.clone(), torch.get_rng_state()
    first = trick(batch, draws(4, 8, 15, 16, 23), SIZE)
    assert torch.equal(batch, before)
    assert torch.equal(first, trick(batch, draws(4, 8, 15, 16, 23), SIZE))
    assert torch.equal(state, torch.get_rng_state())


@each
def test_an_image_does_not_depend_on_its_neighbours(trick: Augmentation) -> None:
    batch = images(5, 3)
    together = trick(batch, draws(4, 8, 15, 16, 23), SIZE)
    swapped = trick(batch.flip(0), draws(23, 16, 15, 8, 4), SIZE)
    assert torch.equal(swapped.flip(0), together)
    for n, index in enumerate((4, 8, 15, 16, 23)):
        assert torch.equal(trick(batch[n : n + 1], draws(index), SIZE)[0], together[n])


@each
def test_never_waits_for_the_device(trick: Augmentation) -> None:
    """Tensors on ``meta`` hold no numbers, so whatever a GPU would have to be waited for raises here."""
    meta = torch.device("meta")
    for count in (1, 5):
        got = trick(images(count, 3).to(meta), SampleDraws(1, 2, torch.arange(count), meta), SIZE)
        assert (got.shape, got.dtype, got.device) == ((count, SIZE, SIZE, 3), torch.uint8, meta)

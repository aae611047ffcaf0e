"""Every augmentation keeps the contract of ``jobs.augment.trick``, at ordinary values and at the ends of its ranges."""

from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter

from jobs.augment import Augmentation, AugmentSpec, Crop, Flip
from jobs.randomness import SampleDraws, generator

EXAMPLES: list[Augmentation] = [
    Crop(),
    Crop(padding=1),
    Crop(padding=100),
    Flip(),
    Flip(probability=0),
    Flip(probability=1),
]
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

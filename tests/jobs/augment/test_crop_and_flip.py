"""The arithmetic of the augmentations, image by image."""

import numpy as np
import pytest
import torch

from jobs.augment import Crop, Flip
from jobs.augment.crop import crop
from jobs.augment.flip import flip
from jobs.randomness import SampleDraws, generator


def images(count: int = 7, height: int = 6, width: int = 5, channels: int = 3) -> torch.Tensor:
    shape = (count, height, width, channels)
    return torch.randint(1, 256, shape, generator=generator("images"), dtype=torch.uint8)  # 0 is the padding alone


@pytest.mark.parametrize("padding", [1, 4, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_crop_is_the_naive_one_image_by_image(padding: int, channels: int) -> None:
    batch = images(channels=channels)
    top, left = torch.randint(0, 2 * padding + 1, (2, 7), generator=generator("places"))
    top[0] = left[0] = 0
    top[1] = left[1] = 2 * padding
    got = crop(batch, top, left, padding)
    for image, t, l, ours in zip(batch.numpy(), top.tolist(), left.tolist(), got.numpy(), strict=True):  # noqa: E741
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        np.testing.assert_array_equal(ours, padded[t : t + 6, l : l + 5])


def test_crop_by_hand() -> None:
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).view(1, 2, 2, 1)
    places = torch.tensor([[0, 0], [1, 1], [2, 1], [1, 2]])
    got = [crop(image, place[:1], place[1:], 1).flatten().tolist() for place in places]
    assert got == [[0, 0, 0, 1], [1, 2, 3, 4], [3, 4, 0, 0], [2, 0, 4, 0]]


def test_crop_reaches_every_place_equally_often() -> None:
    count, padding = 9000, 1
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 3, 3, 1).expand(count, 3, 3, 1)
    centres = Crop(padding=padding)(image, SampleDraws(0, 0, torch.arange(count)), 3)[:, 1, 1, 0]
    seen = centres.long().bincount(minlength=10)[1:]  # the centre shows which of the 9 windows it was
    assert seen.sum() == count
    assert (seen - 1000).abs().max() < 5 * (count * 1 / 9 * 8 / 9) ** 0.5


def test_flip_by_hand() -> None:
    batch = images()
    flipped = torch.tensor([True, False, False, True, True, False, True])
    got = flip(batch, flipped)
    for image, mirrored, ours in zip(batch.numpy(), flipped.tolist(), got.numpy(), strict=True):
        np.testing.assert_array_equal(ours, image[:, ::-1] if mirrored else image)


def test_flip_probability() -> None:
    count = 4000
    batch = torch.tensor([[1, 2]], dtype=torch.uint8).view(1, 1, 2, 1).expand(count, 1, 2, 1)
    draws = SampleDraws(3, 1, torch.arange(count))
    share = {
        p: (Flip(probability=p)(batch, draws, 2)[:, 0, 0, 0] == 2).double().mean().item() for p in (0, 0.25, 0.5, 1)
    }
    assert (share[0], share[1]) == (0, 1)
    assert share[0.25] == pytest.approx(0.25, abs=0.03)
    assert share[0.5] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("trick", [Crop(), Flip()])
def test_one_image_alone_is_what_it_is_in_a_batch(trick: Crop | Flip) -> None:
    batch, index = images(), torch.tensor([40, 3, 999, 17, 0, 5, 6])
    together = trick(batch, SampleDraws(1, 2, index), 6)
    assert not torch.equal(together, batch)
    for n in range(7):
        assert torch.equal(trick(batch[n : n + 1], SampleDraws(1, 2, index[n : n + 1]), 6)[0], together[n])

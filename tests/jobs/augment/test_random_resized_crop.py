"""Random resized crop: torchvision's boxes, Pillow's filter, and the same pixels alone and in a batch."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from scipy.stats import ks_2samp
from torchvision.transforms import InterpolationMode, functional
from torchvision.transforms import RandomResizedCrop as Theirs

from jobs.augment import RandomResizedCrop
from jobs.augment.random_resized_crop import boxes
from jobs.augment.resample import resample, resample_ragged, resized
from jobs.randomness import SampleDraws
from tests.jobs.augment.pictures import PHOTOS, pictures

Bounds = tuple[float, float]
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def uniform(count: int) -> torch.Tensor:
    return SampleDraws(3, 1, torch.arange(count)).uniform("random_resized_crop", 22)


def naive_box(draws: list[float], height: int, width: int, scale: Bounds, ratio: Bounds) -> list[int]:
    """The paper's recipe, one image and one try at a time."""
    for area_draw, ratio_draw in zip(draws[:10], draws[10:20], strict=True):
        area = height * width * (scale[0] + area_draw * (scale[1] - scale[0]))
        aspect = ratio[0] ** (1 - ratio_draw) * ratio[1] ** ratio_draw
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 1 <= w <= width and 1 <= h <= height:
            return [int(draws[20] * (height - h + 1)), int(draws[21] * (width - w + 1)), h, w]
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 32, SCALE, RATIO),
        (375, 500, SCALE, RATIO),
        (33, 90, (0.5, 1.0), RATIO),
        (90, 33, (0.9, 1.0), (0.9, 1.1)),
        (20, 20, (1.0, 1.0), (0.25, 4.0)),
        (7, 5, (0.001, 0.01), RATIO),
    ],
)
def test_boxes_are_the_recipes(height: int, width: int, scale: Bounds, ratio: Bounds) -> None:
    draws = uniform(500)
    expected = [naive_box(each, height, width, scale, ratio) for each in draws.tolist()]
    assert boxes(draws, torch.tensor([[height, width]]), scale, ratio).tolist() == expected


def test_boxes_are_spread_as_torchvisions() -> None:
    image, count = torch.zeros(3, 60, 90), 4000
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = torch.tensor([Theirs.get_params(image, list(SCALE), list(RATIO)) for _ in range(count)])
    ours = boxes(uniform(count), torch.tensor([[60, 90]]), SCALE, RATIO)
    for mine, other in zip(ours.unbind(1), theirs.unbind(1), strict=True):
        assert ks_2samp(mine.numpy(), other.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(10, 200), (200, 10), (31, 97), (1, 50)])
def test_what_never_fits_is_cut_as_torchvision_cuts_it(height: int, width: int) -> None:
    theirs = Theirs.get_params(torch.zeros(3, height, width), [1.0, 1.0], list(RATIO))
    assert boxes(uniform(3), torch.tensor([[height, width]]), (1.0, 1.0), RATIO).tolist() == [list(theirs)] * 3


def test_a_box_is_never_empty() -> None:
    assert boxes(uniform(2), torch.tensor([[3, 3]]), (1.0, 1.0), (50.0, 100.0)).tolist() == [[1, 0, 1, 3]] * 2


def test_resampling_by_hand() -> None:
    line = torch.tensor([0, 100], dtype=torch.uint8).view(1, 1, 2, 1)
    whole = torch.tensor([[0, 0, 1, 2]])
    assert resample(line, whole, 4)[0, 0, :, 0].tolist() == [0, 25, 75, 100]
    assert resample(line, whole, 1).flatten().tolist() == [50]
    assert resample(line, torch.tensor([[0, 1, 1, 1]]), 2).flatten().tolist() == [100] * 4
    five = torch.tensor([10, 20, 40, 80, 160, 0], dtype=torch.uint8).view(1, 1, 6, 1)
    # 6 to 3: the triangle reaches 2 pixels either way, weights 1, 3, 3, 1 of 8, or 3, 3, 1 of 7 at an end
    assert resample(five, torch.tensor([[0, 0, 1, 6]]), 3)[0, 0, :, 0].tolist() == [19, 68, 80]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 32, 224])
def test_images_of_any_shapes_at_once_are_those_of_torchs_filter_one_by_one(size: int, channels: int) -> None:
    source = np.random.default_rng(size)
    shapes = source.integers(1, 420 if size > 7 else 60, (40, 2))
    images = [source.integers(0, 256, (*shape, channels), dtype=np.uint8) for shape in shapes]
    parts = source.integers(1, shapes + 1)
    box = torch.from_numpy(np.concatenate([source.integers(0, shapes - parts + 1), parts], 1))
    pixels = torch.from_numpy(np.concatenate([image.reshape(-1, channels) for image in images]))
    begins = torch.from_numpy(np.concatenate([[0], shapes.prod(1).cumsum()[:-1]]))
    got = resample_ragged(pixels, begins, torch.from_numpy(shapes[:, 1].copy()), box, size)
    for image, (top, left, tall, wide), ours in zip(images, box.tolist(), got, strict=True):
        assert torch.equal(ours, resized(image[top : top + tall, left : left + wide], (size, size), "bilinear"))


def test_an_image_of_the_size_stays_itself() -> None:
    batch = pictures(6, 24, 24)
    assert torch.equal(resample(batch, torch.tensor([[0, 0, 24, 24]]).expand(6, 4), 24), batch)
    trick = RandomResizedCrop(scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert torch.equal(trick(batch, SampleDraws(0, 0, torch.arange(6)), 24), batch)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (61, 80, 24), (45, 32, 70), (427, 640, 224)])
def test_pixels_are_those_of_torchvision_and_pillow(height: int, width: int, size: int, channels: int) -> None:
    batch = pictures(12, height, width, channels) if height < 400 else torch.stack(PHOTOS)[..., :channels]
    places = boxes(uniform(len(batch)), torch.tensor([[height, width]]), SCALE, RATIO)
    changed = []
    for image, box, ours in zip(batch, places.tolist(), resample(batch, places, size), strict=True):
        top, left, tall, wide = box
        tensor = functional.resized_crop(
            image.permute(2, 0, 1), top, left, tall, wide, [size, size], InterpolationMode.BILINEAR, antialias=True
        )
        assert (ours.int() - tensor.permute(1, 2, 0).int()).abs().max() <= 1  # it does not round between the two passes
        pillow = Image.fromarray(image.squeeze(-1).numpy()).crop((left, top, left + wide, top + tall))
        resized = np.asarray(pillow.resize((size, size), Image.Resampling.BILINEAR)).reshape(size, size, channels)
        changed.append((ours.int() - torch.from_numpy(resized.copy()).int()).abs())
    assert torch.stack(changed).max() <= 1
    assert torch.stack(changed).double().mean() < 0.03


def test_an_image_alone_is_what_it_is_in_a_batch() -> None:
    trick, batch, index = RandomResizedCrop(), pictures(40, 53, 37), torch.arange(40) * 11
    together = trick(batch, SampleDraws(8, 0, index), 29)
    for n in range(40):
        assert torch.equal(trick(batch[n : n + 1], SampleDraws(8, 0, index[n : n + 1]), 29)[0], together[n])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (300, 2)])
def test_odd_images_survive(height: int, width: int) -> None:
    image = torch.full((1, height, width, 3), 9, dtype=torch.uint8)
    assert torch.equal(RandomResizedCrop()(image, SampleDraws(0, 0, torch.tensor([5])), 6), torch.full((1, 6, 6, 3), 9))


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"the smaller bound comes first, got \[1.0, 0.5\]"):
        RandomResizedCrop(scale=(1.0, 0.5))
    with pytest.raises(ValidationError, match="greater than 0"):
        RandomResizedCrop(ratio=(0.0, 1.0))

"""Cutout and Random Erasing: by hand, against counts of all places, the paper's loop and torchvision's draws."""

from __future__ import annotations

import math
import random

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import RandomErasing as Torchvisions

from jobs.batch import At, Cutout, RandomErasing
from jobs.batch.cutout import cutout
from jobs.batch.holes import inside, rectangles
from jobs.batch.random_erasing import noise, random_erasing
from jobs.randomness import SampleDraws, generator

AT = At(epoch=0, step=0, part=0, epochs=10, steps=100)
COUNT = 6000
SAME = 1.95 * (2 / COUNT) ** 0.5
"""Two samples of COUNT draws of one distribution are further apart than this with a probability of 0.001."""


def draws(seed: int) -> SampleDraws:
    return SampleDraws(seed, 0, torch.arange(COUNT))


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_inside_by_hand() -> None:
    mask = inside(torch.tensor([0, -3]), torch.tensor([2, 1]), torch.tensor([1, 2]), torch.tensor([2, 9]), 3, 4)
    assert mask.shape == (2, 1, 3, 4)
    assert mask[0, 0].int().tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert mask[1, 0].int().tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_cutout_by_hand() -> None:
    x = torch.ones(3, 2, 5, 4)
    row, middle = torch.tensor([2, 0, 4]), torch.tensor([1, 0, 3])
    even, odd = cutout(x, row, middle, 2), cutout(x, row, middle, 3)
    assert torch.equal(even[:, 0], even[:, 1])
    assert even[0, 0].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert even[1, 0].tolist() == [[0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert odd[0, 0].tolist() == [[1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1]]
    assert odd[2, 0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert cutout(x, row, middle, 1).sum() == x.sum() - 6
    assert not cutout(x, row, middle, 100).any()


def test_mean_area_of_the_clipped_hole_is_the_fact_sheets() -> None:
    everywhere = torch.cartesian_prod(torch.arange(32), torch.arange(32))
    mean = (cutout(torch.ones(1024, 1, 32, 32), *everywhere.unbind(1), 16) == 0).double().mean().item()
    assert mean == (14 / 32) ** 2 == pytest.approx(0.191, abs=5e-4)
    erased = [
        (Cutout()(torch.ones(256, 1, 32, 32), torch.eye(256), generator(seed), AT)[0] == 0).double().mean().item()
        for seed in range(40)
    ]
    assert sum(erased) / 40 == pytest.approx(mean, abs=4 * 0.06 / (40 * 256) ** 0.5)


def test_centres_of_cutout_are_uniform_and_an_images_own() -> None:
    x, count = torch.ones(500, 3, 4, 7), 0
    seen = torch.zeros(4, 7)
    for seed in range(10):
        holes, _ = Cutout(size=1)(x, torch.eye(500), generator(seed), AT)
        assert ((holes == 0).sum((1, 2, 3)) == 3).all()
        seen += (holes[:, 0] == 0).sum(0)
        count += 500
    expected = count / 28
    assert ((seen - expected) ** 2 / expected).sum() < 27 + 4.5 * 54**0.5


def test_rectangles_by_hand() -> None:
    share = torch.stack([column(0.16, 0.16, 0.9, 0.9), column(0.5, 0.25, 0.25, 0.9)])
    aspect = torch.stack([column(1.0, 4.0, 9.0, 9.0), column(1.0, 1.0, 1.0, 0.1)])
    row, middle = column(0.0, 0.999, 0.5, 0.5), column(0.999, 0.0, 0.5, 0.5)
    top, bottom, left, right = rectangles(share, aspect, row, middle, 10, 20)
    # rows sqrt(32), sqrt(128) = 11.3 is too many, so the second try: sqrt(50); likewise the third; the fourth has none
    assert (bottom - top).tolist() == [6, 7, 7, 0]
    assert (right - left).tolist() == [6, 7, 7, 0]
    assert top.tolist()[:3] == [0, 3, 2]
    assert left.tolist()[:3] == [14, 0, 7]
    tall = rectangles(column(0.2)[None], column(2.0)[None], column(0.0), column(0.0), 16, 16)
    assert tall[:, 0].tolist() == [0, 10, 0, 5]  # aspect is height / width


def test_a_rectangle_as_large_as_the_image_does_not_fit() -> None:
    edges = rectangles(column(1.0, 0.96)[None], column(1.0, 1.0)[None], column(0.5, 0.5), column(0.5, 0.5), 10, 10)
    assert (edges[1] - edges[0]).tolist() == [0, 0]  # 9.8 is rounded to 10
    edges = rectangles(column(0.9)[None], column(1.0)[None], column(0.999), column(0.999), 10, 10)
    assert edges[:, 0].tolist() == [1, 10, 1, 10]


def test_erasing_by_hand() -> None:
    x, edges = torch.ones(2, 2, 3, 3), torch.tensor([[0, 1], [2, 1], [1, 0], [3, 3]])
    mean = random_erasing(x, edges)
    assert mean[0].tolist() == [[[1, 0, 0], [1, 0, 0], [1, 1, 1]]] * 2
    assert torch.equal(mean[1], x[1])
    noisy = noise(x, edges, SampleDraws(0, 0, torch.arange(2)))
    assert torch.equal(noisy == 1, mean == 1) and len(noisy[mean == 0].unique()) == 8


def measures(edges: torch.Tensor, height: int, width: int) -> dict[str, torch.Tensor]:
    top, bottom, left, right = edges.double()[:, edges[1] > edges[0]]  # once in 10,000 times no candidate fits
    rows, columns = bottom - top, right - left
    places = {"top": top / (height - rows), "left": left / (width - columns)}
    return {"area": rows * columns / (height * width), "aspect": rows / columns, **places}


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(ks_2samp(first, second).statistic)


def ours(height: int, width: int, **fields: object) -> dict[str, torch.Tensor]:
    trick = RandomErasing.model_validate({"probability": 1.0, **fields})
    return measures(trick.edges(height, width, draws(height)), height, width)


@pytest.mark.parametrize("size", [(64, 64), (40, 71)])
def test_area_and_aspect_are_distributed_as_torchvisions(size: tuple[int, int]) -> None:
    image, edges = torch.zeros(1, *size), []
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for _ in range(COUNT):
            top, left, rows, columns, _ = Torchvisions.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])
            edges.append((top, top + rows, left, left + columns))
    theirs = measures(torch.tensor(edges).T, *size)
    same = ours(*size, scale=[0.02, 0.33], ratio=[0.3, 3.3], aspect="log_uniform")
    for name, values in theirs.items():
        assert distance(same[name], values) < SAME, name
    assert distance(ours(*size, scale=[0.02, 0.33], ratio=[0.3, 3.3])["aspect"], theirs["aspect"]) > 5 * SAME
    assert distance(ours(*size, scale=[0.02, 0.4], aspect="log_uniform")["area"], theirs["area"]) > 2 * SAME


@pytest.mark.parametrize("size", [(32, 32), (17, 40)])
def test_area_and_aspect_are_distributed_as_in_the_papers_loop(size: tuple[int, int]) -> None:
    height, width = size
    source, edges = random.Random(0), []
    while len(edges) < COUNT:
        area, aspect = source.uniform(0.02, 0.4) * height * width, source.uniform(0.3, 1 / 0.3)
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows < height and columns < width:
            top, left = source.randint(0, height - rows), source.randint(0, width - columns)
            edges.append((top, top + rows, left, left + columns))
    theirs, same = measures(torch.tensor(edges).T, height, width), ours(height, width)
    for name, values in theirs.items():
        assert distance(same[name], values) < SAME, name


def test_rectangles_lie_inside_and_every_image_has_its_own() -> None:
    edges = RandomErasing(probability=1.0).edges(32, 24, draws(0))
    top, bottom, left, right = edges
    assert ((top >= 0) & (top < bottom) & (bottom <= 32) & (bottom - top < 32)).all()
    assert ((left >= 0) & (left < right) & (right <= 24) & (right - left < 24)).all()
    assert (bottom == 32).any() and (right == 24).any()
    assert len(edges.unique(dim=1).T) > COUNT * 0.8


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_share_of_erased_images_is_the_probability(probability: float) -> None:
    top, bottom, _, _ = RandomErasing(probability=probability).edges(32, 32, draws(1))
    erased = bottom > top
    assert erased.double().mean().item() == pytest.approx(probability, abs=4 * (0.25 / COUNT) ** 0.5)
    whole = RandomErasing(probability=1.0).edges(32, 32, draws(1))
    assert torch.equal(whole[0][erased], top[erased])


def test_fill_is_the_mean_or_noise() -> None:
    x, y = torch.full((200, 3, 32, 32), 7.0), torch.eye(200)
    mean, same = RandomErasing()(x, y, generator(2), AT)
    assert same is y
    assert set(mean.unique().tolist()) == {0.0, 7.0}
    noisy, _ = RandomErasing(fill="noise")(x, y, generator(2), AT)
    assert torch.equal(noisy == 7.0, mean == 7.0)
    values = noisy[mean == 0].double()
    assert kstest(values, "norm").statistic < 1.95 / len(values) ** 0.5
    count = len(values)
    assert values.mean().item() == pytest.approx(0, abs=4 / count**0.5)
    assert values.std().item() == pytest.approx(1, abs=4 / (2 * count) ** 0.5)
    assert len(values.unique()) > 0.9 * count
    other, _ = RandomErasing(fill="noise")(x, y, generator(3), AT)
    assert not torch.equal(other, noisy)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scale": [0.4, 0.02]}, "write \\[0.02, 0.4\\]"),
        ({"ratio": [3, 0.3]}, "write \\[0.3, 3\\]"),
        ({"scale": [0.1]}, "scale"),
        ({"scale": [0.1, 1.5]}, "scale"),
        ({"ratio": [0.0, 1.0]}, "ratio"),
        ({"probability": 1.1}, "probability"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RandomErasing.model_validate(fields)


@pytest.mark.parametrize("size", [0, -1, 100_001])
def test_sizes_that_make_no_sense_are_refused(size: int) -> None:
    with pytest.raises(ValidationError, match="size"):
        Cutout(size=size)

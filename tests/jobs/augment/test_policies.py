"""AutoAugment, RandAugment and TrivialAugment: torchvision's tables, and draws as often as they say."""

from collections.abc import Iterator

import pytest
import torch
from torchvision.transforms import AutoAugment as TheirAutoAugment
from torchvision.transforms import AutoAugmentPolicy, TrivialAugmentWide
from torchvision.transforms import RandAugment as TheirRandAugment

from jobs.augment import AutoAugment, RandAugment, TrivialAugment, ops
from jobs.augment.policies import POLICIES
from jobs.randomness import SampleDraws
from tests.jobs.augment.pictures import assert_drawn_by, pictures, torchvisions

COUNT = 20_000
SIDE = 9

Space = dict[str, tuple[torch.Tensor, bool]]


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return pictures(4, SIDE, SIDE)[0]


def copies(image: torch.Tensor) -> tuple[torch.Tensor, SampleDraws]:
    return image.expand(COUNT, *image.shape), SampleDraws(5, 1, torch.arange(COUNT))


@pytest.mark.parametrize("policy", AutoAugmentPolicy)
def test_policies_are_torchvisions(policy: AutoAugmentPolicy) -> None:
    theirs = [tuple((op, p, bin_ or 0) for op, p, bin_ in each) for each in TheirAutoAugment(policy).policies]
    assert list(POLICIES[policy.value]) == theirs
    assert set(POLICIES) == {each.value for each in AutoAugmentPolicy}


def assert_levels(levels: torch.Tensor, space: Space) -> None:
    for row, name in zip(levels, ops.OPS, strict=True):
        if name in space:
            assert torch.equal(row, space[name][0].double().expand(levels.shape[1])), name
    signed = list(ops.OPS)[ops.SIGNED]
    assert [name for name, (_, sign) in space.items() if sign] == signed


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (224, 224)])
def test_magnitudes_are_torchvisions(size: tuple[int, int]) -> None:
    auto: Space = TheirAutoAugment()._augmentation_space(10, size)
    rand: Space = TheirRandAugment()._augmentation_space(31, size)
    wide: Space = TrivialAugmentWide()._augmentation_space(31)
    assert_levels(ops.paper_levels(10, *size), auto)
    assert_levels(ops.paper_levels(31, *size), rand)
    assert_levels(ops.wide_levels(31), wide)
    assert list(rand) == list(wide) == list(ops.OPS)[: ops.DRAWN]
    assert set(auto) == set(ops.OPS) - {"Identity"}


def either_sign(name: str, space: Space, bin_: int) -> Iterator[tuple[float, float]]:
    """The magnitudes that an op can get from a bin, each with its probability."""
    values, sign = space[name]
    magnitude = float(values[bin_]) if values.ndim else 0.0
    yield from [(0.5, magnitude), (0.5, -magnitude)] if sign else [(1.0, magnitude)]


@pytest.mark.parametrize("policy", AutoAugmentPolicy)
def test_auto_augment_draws_what_the_policy_says(policy: AutoAugmentPolicy, picture: torch.Tensor) -> None:
    space = TheirAutoAugment()._augmentation_space(10, (SIDE, SIDE))
    expected = []
    for sub_policy in TheirAutoAugment(policy).policies:
        outcomes = [(1 / 25, picture)]
        for name, probability, bin_ in sub_policy:
            after = [(share * (1 - probability), image) for share, image in outcomes]
            for half, magnitude in either_sign(name, space, bin_):
                after += [
                    (share * probability * half, torchvisions(image, name, magnitude)) for share, image in outcomes
                ]
            outcomes = after
        expected += outcomes
    images, draws = copies(picture)
    assert_drawn_by(AutoAugment(policy=policy.value)(images, draws, SIDE), expected)


@pytest.mark.parametrize(("num_ops", "magnitude"), [(1, 30), (2, 9)])
def test_rand_augment_draws_evenly(num_ops: int, magnitude: int, picture: torch.Tensor) -> None:
    space = TheirRandAugment()._augmentation_space(31, (SIDE, SIDE))
    expected = [(1.0, picture)]
    for _ in range(num_ops):
        expected = [
            (share * half / len(space), torchvisions(image, name, strength))
            for share, image in expected
            for name in space
            for half, strength in either_sign(name, space, magnitude)
        ]
    images, draws = copies(picture)
    assert_drawn_by(RandAugment(num_ops=num_ops, magnitude=magnitude)(images, draws, SIDE), expected)


def test_trivial_augment_draws_ops_and_magnitudes_evenly(picture: torch.Tensor) -> None:
    space = TrivialAugmentWide()._augmentation_space(31)
    expected = [
        (half / len(space) / 31, torchvisions(picture, name, strength))
        for name in space
        for bin_ in range(31)
        for half, strength in either_sign(name, space, bin_)
    ]
    images, draws = copies(picture)
    assert_drawn_by(TrivialAugment()(images, draws, SIDE), expected)


def test_the_tricks_draw_apart(picture: torch.Tensor) -> None:
    """Two samples rarely come out alike, nor does one in two epochs."""
    batch = picture.expand(400, SIDE, SIDE, 3)
    first = RandAugment()(batch, SampleDraws(0, 0, torch.arange(400)), SIDE)
    later = RandAugment()(batch, SampleDraws(0, 1, torch.arange(400)), SIDE)
    assert (first == later).flatten(1).all(1).float().mean() < 0.1
    assert (first[1:] == first[:-1]).flatten(1).all(1).float().mean() < 0.1

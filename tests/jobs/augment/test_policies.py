"""AutoAugment, RandAugment and TrivialAugment: torchvision's tables, and draws as often as they say."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from scipy.special import ndtri
from timm.data import auto_augment
from torchvision.transforms import AutoAugment as TheirAutoAugment
from torchvision.transforms import AutoAugmentPolicy, TrivialAugmentWide
from torchvision.transforms import RandAugment as TheirRandAugment

from jobs.augment import AutoAugment, RandAugment, TrivialAugment, ops
from jobs.augment.policies import POLICIES
from jobs.augment.rand_augment import TIMM_OPS
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
    assert set(auto) == set(ops.OPS) - {"Identity", "SolarizeAdd"}


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


class Told:
    """Python's ``random``, answering what it is told to."""

    def __init__(self, uniforms: list[float], normal: float) -> None:
        self.uniforms, self.normal = uniforms, normal

    def random(self) -> float:
        return self.uniforms.pop(0)

    def gauss(self, mean: float, std: float) -> float:
        return mean + std * self.normal

    def choice(self, values: Sequence[object]) -> object:
        return values[0]


def test_timms_rand_augment_applies_what_timms_own_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operation, whether it is applied, its argument, of the same draws; pixels where Pillow does not interpolate."""
    count, size = 3000, (24, 30)
    theirs = auto_augment.rand_augment_transform("rand-m9-n1-mstd0.5-inc1", {"translate_pct": 0.45, "img_mean": 0})
    assert [op.name.removesuffix("Increasing").removesuffix("Rel") for op in theirs.ops] == list(TIMM_OPS)
    trick = RandAugment(num_ops=1, magnitude=9, ops="timm", probability=0.5, magnitude_std=0.5)
    draws, seen = SampleDraws(3, 1, torch.arange(count)), []
    image = pictures(4, *size)[0]

    def note(images: torch.Tensor, op: torch.Tensor, magnitude: torch.Tensor, _: SampleDraws) -> torch.Tensor:
        seen.append((op, magnitude))
        return ops_apply(images, op, magnitude, draws)

    ops_apply = ops.apply
    monkeypatch.setattr(ops, "apply", note)
    ours = trick(image.expand(count, *image.shape), draws, 24)
    monkeypatch.undo()
    (op, magnitude), alike = seen[0], 0
    for number, (choice, sign, applied, deviation) in enumerate(draws.uniform("rand_augment", 4).tolist()):
        their_op, told = theirs.ops[int(choice * 15)], Told([applied, 1 - sign], float(ndtri(deviation)))
        called: list[tuple[float, ...]] = []
        monkeypatch.setattr(auto_augment, "random", told)
        monkeypatch.setattr(their_op, "aug_fn", lambda img, *args, called=called, **_: called.append(args))
        their_op(None)
        name = list(ops.OPS)[int(op[number])]
        if not called:
            assert name == "Identity" and torch.equal(ours[number], image)
            continue
        assert name == TIMM_OPS[int(choice * 15)]
        if called[0]:
            factor = (
                1 if "Increasing" in their_op.name and name in ("Color", "Contrast", "Brightness", "Sharpness") else 0
            )
            side = {"TranslateX": 30, "TranslateY": 24}.get(name, 1)
            assert float(magnitude[number]) == pytest.approx((called[0][0] - factor) * side, abs=1e-9), name
        if name in ("Invert", "SolarizeAdd", "Solarize", "Posterize", "Equalize"):
            pixels = auto_augment.NAME_TO_OP[their_op.name](Image.fromarray(image.numpy()), *called[0])
            assert torch.equal(ours[number], torch.from_numpy(np.array(pixels))), name
            alike += 1
    assert alike > 300


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"ops": "timm", "magnitude": 18}, "more than 10"), ({"magnitude_std": 0.5}, "needs ops: timm")],
)
def test_magnitudes_off_the_scale_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RandAugment.model_validate(fields)


def test_a_good_quarter_of_the_images_is_left_as_it_is(picture: torch.Tensor) -> None:
    images, draws = copies(picture)
    trick = RandAugment(ops="timm", magnitude=6, probability=0.5, magnitude_std=0.5)
    untouched = (trick(images, draws, SIDE) == picture).flatten(1).all(1).double().mean().item()
    assert 0.25 < untouched < 0.35, "a quarter of them by the probability, some since an operation does nothing to them"

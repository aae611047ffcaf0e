"""The operations of the AutoAugment family: by hand, and against torchvision's, one image at a time."""

from collections.abc import Callable

import pytest
import torch

from jobs.augment import ops
from jobs.randomness import SampleDraws, generator
from tests.jobs.augment.pictures import pictures, torchvisions

SIZES = [(32, 32), (33, 33), (17, 24), (24, 17)]
LEVELS: dict[str, Callable[[int, int], torch.Tensor]] = {
    "auto_augment": lambda height, width: ops.paper_levels(10, height, width),
    "rand_augment": lambda height, width: ops.paper_levels(31, height, width),
    "trivial_augment": lambda height, width: ops.wide_levels(31),
}


def strengths(op: str, levels: torch.Tensor) -> torch.Tensor:
    """Every magnitude that an image can get: both signs where the operation takes one."""
    row = list(ops.OPS).index(op)
    signed = ops.SIGNED.start <= row < ops.SIGNED.stop
    return torch.cat((levels[row], -levels[row])) if signed else levels[row]


def near_tie(op: str, height: int, width: int, magnitude: float) -> torch.Tensor:
    """Whether a pixel ``(H, W)`` comes from halfway between two others, by the op's geometry in float64.

    There the rounding noise of torchvision's matrix product decides, which depends on the processor.
    """
    x = (torch.arange(width, dtype=torch.float64) + 0.5)[None, :].expand(height, width)
    y = (torch.arange(height, dtype=torch.float64) + 0.5)[:, None].expand(height, width)
    if op == "ShearX":
        x = x + magnitude * y
    elif op == "ShearY":
        y = y + magnitude * x
    elif op == "Rotate":
        turn = torch.tensor(magnitude, dtype=torch.float64).deg2rad()
        x, y = x - width / 2, y - height / 2
        x, y = x * turn.cos() - y * turn.sin() + width / 2, x * turn.sin() + y * turn.cos() + height / 2
    else:
        return torch.zeros(height, width, dtype=torch.bool)
    return ((x - x.round()).abs() < 1e-4) | ((y - y.round()).abs() < 1e-4)


@pytest.mark.parametrize("space", LEVELS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("op", ops.OPS)
def test_every_op_at_every_magnitude_is_torchvisions(op: str, channels: int, space: str) -> None:
    for height, width in SIZES:
        magnitude = strengths(op, LEVELS[space](height, width))
        batch = pictures(len(magnitude), height, width, channels)
        got = ops.OPS[op](batch, magnitude)
        assert got.dtype == torch.uint8
        for image, ours, strength in zip(batch, got, magnitude.tolist(), strict=True):
            theirs = torchvisions(image, op, strength)
            different = (ours != theirs).any(-1)
            assert not (different & ~near_tie(op, height, width, strength)).any(), (height, width, strength)


@pytest.mark.parametrize("op", ["Rotate", "ShearX", "Contrast", "Sharpness", "Equalize", "AutoContrast", "Color"])
def test_large_images_too(op: str) -> None:
    batch = pictures(5, 225, 224)
    magnitude = strengths(op, ops.paper_levels(31, 225, 224))[torch.tensor([3, 30, 11, 20, 7])]
    for image, ours, strength in zip(batch, ops.OPS[op](batch, magnitude), magnitude.tolist(), strict=True):
        different = (ours != torchvisions(image, op, strength)).any(-1)
        assert not (different & ~near_tie(op, 225, 224, strength)).any()


def one(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.uint8)[None, :, :, None]


def after(op: str, image: torch.Tensor, magnitude: float) -> list[list[int]]:
    return ops.OPS[op](image, torch.tensor([magnitude], dtype=torch.float64))[0, :, :, 0].tolist()


def test_geometry_by_hand() -> None:
    square = one([1, 2, 3], [4, 5, 6], [7, 8, 9])
    assert after("TranslateX", square, 1.9) == [[0, 1, 2], [0, 4, 5], [0, 7, 8]]
    assert after("TranslateX", square, -1.9) == [[2, 3, 0], [5, 6, 0], [8, 9, 0]]
    assert after("TranslateY", square, 2.0) == [[0, 0, 0], [0, 0, 0], [1, 2, 3]]
    assert after("Rotate", square, 90.0) == [[3, 6, 9], [2, 5, 8], [1, 4, 7]]
    assert after("Rotate", square, -90.0) == [[7, 4, 1], [8, 5, 2], [9, 6, 3]]
    assert after("ShearX", square, 0.9) == [[1, 2, 3], [5, 6, 0], [9, 0, 0]]  # lines move by 0.45, 1.35 and 2.25
    assert after("ShearY", square, -0.9) == [[1, 0, 0], [4, 2, 0], [7, 5, 3]]


def test_values_by_hand() -> None:
    image = one([0, 50, 100], [150, 200, 250])
    assert after("Brightness", image, 0.5) == [[0, 75, 150], [225, 255, 255]]
    assert after("Contrast", image, -0.5) == [[62, 87, 112], [137, 162, 187]]  # mean 125
    assert after("Posterize", image, 2) == [[0, 0, 64], [128, 192, 192]]
    assert after("Posterize", image, 8) == [[0, 50, 100], [150, 200, 250]]
    assert after("Solarize", image, 150) == [[0, 50, 100], [105, 55, 5]]
    assert after("SolarizeAdd", one([0, 127], [128, 100]), 110) == [[110, 237], [128, 210]]
    assert after("Invert", image, 0) == [[255, 205, 155], [105, 55, 5]]
    assert after("AutoContrast", one([10, 20], [40, 10]), 0) == [[0, 85], [255, 0]]
    assert after("AutoContrast", one([10, 10], [10, 10]), 0) == [[10, 10], [10, 10]]
    assert after("Color", image, -0.9) == after("Identity", image, 0.3) == [[0, 50, 100], [150, 200, 250]]
    red = torch.tensor([[[[200, 0, 0]]]], dtype=torch.uint8)  # grey 0.2989 x 200, rounded down: 59
    assert ops.color(red, torch.tensor([-0.5], dtype=torch.float64)).flatten().tolist() == [129, 29, 29]


def test_sharpness_by_hand() -> None:
    dot = one([0, 0, 0], [0, 130, 0], [0, 0, 0])  # smoothed: 5 x 130 / 13 = 50
    assert after("Sharpness", dot, -1.0) == [[0, 0, 0], [0, 50, 0], [0, 0, 0]]
    assert after("Sharpness", dot, -0.5) == [[0, 0, 0], [0, 90, 0], [0, 0, 0]]
    assert after("Sharpness", dot, 0.5) == [[0, 0, 0], [0, 170, 0], [0, 0, 0]]
    assert after("Sharpness", one([0, 200], [90, 7]), 0.9) == [[0, 200], [90, 7]]  # nothing but edges


def test_each_image_gets_its_own_op() -> None:
    count = 90
    batch, levels = pictures(count, 19, 23), ops.wide_levels(31)
    chosen = torch.arange(count) * 7 % len(ops.OPS)
    magnitude = levels[chosen, torch.randint(31, (count,), generator=generator("bins"))]
    got = ops.apply(batch, chosen, magnitude, SampleDraws(0, 0, torch.arange(count)))
    for image, ours, op, strength in zip(batch, got, chosen.tolist(), magnitude.tolist(), strict=True):
        name = list(ops.OPS)[op]
        assert torch.equal(ours, ops.OPS[name](image[None], torch.tensor([strength], dtype=torch.float64))[0])
        different = (ours != torchvisions(image, name, strength)).any(-1)
        assert not (different & ~near_tie(name, 19, 23, strength)).any()


def test_signs() -> None:
    chosen = torch.arange(len(ops.OPS)).repeat(2)
    uniform = torch.tensor([0.49, 0.5], dtype=torch.float64).repeat_interleave(len(ops.OPS))
    got = ops.signed(torch.full((len(chosen),), 2.0, dtype=torch.float64), chosen, uniform)
    assert got.tolist() == [2.0] + [-2.0] * 9 + [2.0] * 6 + [2.0] * 16

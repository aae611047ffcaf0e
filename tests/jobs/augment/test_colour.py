"""Colour jitter and PCA noise."""

import pytest
import torch
from scipy.stats import kstest
from torchvision.transforms import functional as theirs

from jobs.augment import ColorJitter, PCANoise
from jobs.augment.color_jitter import shift_hue
from jobs.augment.pca_noise import EIGENVALUES, EIGENVECTORS, pca_noise
from jobs.randomness import SampleDraws
from tests.jobs.augment.pictures import pictures

COUNT = 20_000


def turned(colour: list[int], turn: float) -> list[int]:
    image = torch.tensor(colour, dtype=torch.uint8).view(1, 1, 1, 3)
    return shift_hue(image, torch.tensor([turn], dtype=torch.float64)).flatten().tolist()


def test_hue_by_hand() -> None:
    assert turned([200, 0, 0], 1 / 3) == [0, 200, 0]
    assert turned([200, 0, 0], -1 / 3) == [0, 0, 200]
    assert turned([200, 0, 0], 0.5) == [0, 200, 200]
    assert turned([100, 40, 40], 1 / 6) == [100, 100, 40]
    assert turned([100, 40, 40], 1 / 12) == [100, 70, 40]
    assert turned([90, 90, 90], 0.4) == [90, 90, 90]
    assert turned([3, 250, 77], 0.0) == [3, 250, 77]
    assert turned([0, 0, 0], 0.3) == [0, 0, 0]


def test_hue_is_torchvisions() -> None:
    shift = torch.linspace(-0.5, 0.5, 41, dtype=torch.float64)
    batch = pictures(41, 33, 28)
    for image, turn, ours in zip(batch, shift.tolist(), shift_hue(batch, shift), strict=True):
        their = theirs.adjust_hue(image.permute(2, 0, 1), turn).permute(1, 2, 0)
        assert (ours.int() - their.int()).abs().max() <= 1  # torchvision rounds down


def test_jitter_is_torchvisions_in_a_fixed_order() -> None:
    count = 60
    batch, draws = pictures(count, 21, 30), SampleDraws(2, 3, torch.arange(count))
    spec = ColorJitter(brightness=0.4, contrast=0.3, saturation=1.0, hue=0.25)
    uniform = (2 * draws.uniform("color_jitter", 4) - 1).tolist()
    for image, ours, (b, c, s, h) in zip(batch, spec(batch, draws, 21), uniform, strict=True):
        their = theirs.adjust_brightness(image.permute(2, 0, 1), 1 + 0.4 * b)
        their = theirs.adjust_contrast(their, 1 + 0.3 * c)
        their = theirs.adjust_hue(theirs.adjust_saturation(their, 1 + s), 0.25 * h)
        assert (ours.int() - their.permute(1, 2, 0).int()).abs().max() <= 1
    only_factors = spec.model_copy(update={"hue": 0.0})(batch, draws, 21)
    for image, ours, (b, c, s, _) in zip(batch, only_factors, uniform, strict=True):
        their = theirs.adjust_contrast(theirs.adjust_brightness(image.permute(2, 0, 1), 1 + 0.4 * b), 1 + 0.3 * c)
        assert torch.equal(ours, theirs.adjust_saturation(their, 1 + s).permute(1, 2, 0))


def uniform_share(values: torch.Tensor, low: float, high: float) -> float:
    """p-value of the values being evenly spread over low .. high."""
    return float(kstest(values.double().numpy(), "uniform", (low, high - low)).pvalue)


def test_ranges_of_the_jitter() -> None:
    draws = SampleDraws(0, 0, torch.arange(COUNT))
    flat = torch.full((COUNT, 1, 1, 3), 100, dtype=torch.uint8)
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    shade = torch.rand(COUNT, generator=torch.Generator().manual_seed(0))  # undoes the rounding down
    brighter = ColorJitter(**off | {"brightness": 0.4})(flat, draws, 1)[:, 0, 0, 0] + shade
    assert 60 <= brighter.min() < 61 and 139 < brighter.max() < 141
    assert uniform_share(brighter, 60, 140) > 1e-3
    pair = torch.tensor([[50, 150]], dtype=torch.uint8).view(1, 1, 2, 1).expand(COUNT, 1, 2, 1)
    contrast = ColorJitter(**off | {"contrast": 0.5})(pair, draws, 1)[:, 0, 1, 0] + shade
    assert uniform_share(contrast, 125, 175) > 1e-3
    red = torch.tensor([200, 0, 0], dtype=torch.uint8).view(1, 1, 1, 3).expand(COUNT, 1, 1, 3)
    saturation = ColorJitter(**off | {"saturation": 0.4})(red, draws, 1)[:, 0, 0, 0]
    assert 143 <= saturation.min() <= 144 and saturation.max() == 255  # 200 +- 0.4 (200 - 59)
    assert torch.equal(ColorJitter(**off)(red, draws, 1), red)
    hue = ColorJitter(**off | {"hue": 0.1})(red, draws, 1)
    assert hue[..., 0].min() == 200
    assert hue[..., 1].max() in (119, 120) and hue[..., 2].max() in (119, 120)  # 200 x 6 x 0.1
    assert 0.48 < (hue[..., 1] > 0).float().mean() < 0.52


def test_grey_images_keep_saturation_and_hue() -> None:
    batch, draws = pictures(9, 8, 8, channels=1), SampleDraws(0, 0, torch.arange(9))
    assert torch.equal(ColorJitter(brightness=0, contrast=0, saturation=0.9, hue=0.5)(batch, draws, 8), batch)


def test_pca_noise_by_hand() -> None:
    image = torch.full((4, 2, 3, 3), 100, dtype=torch.uint8)
    image[3] = 250
    alpha = torch.tensor([[1, 0, 0], [0, -1, 0], [0, 0, 10], [-1, 0, 0]], dtype=torch.float64)
    got = pca_noise(image, alpha)
    assert (got == got[:, :1, :1]).all()  # one colour for all pixels
    # 255 x 0.2175 x (-0.5675, -0.5808, -0.5836) = (-31.5, -32.2, -32.4), and so on
    assert got[:, 0, 0].tolist() == [[69, 68, 68], [97, 100, 103], [105, 91, 105], [255, 255, 255]]


def test_components_are_orthonormal() -> None:
    vectors = torch.tensor(EIGENVECTORS, dtype=torch.float64)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(3, dtype=torch.float64), atol=2e-4, rtol=0)
    # gluon-cv writes the eigenvalues for values in 0..255
    torch.testing.assert_close(255 * torch.tensor(EIGENVALUES), torch.tensor([55.46, 4.794, 1.148]), atol=0.01, rtol=0)


def test_pca_noise_is_normal_with_the_components_covariance() -> None:
    grey = torch.full((COUNT, 1, 1, 3), 128, dtype=torch.uint8)
    colour = PCANoise(std=0.3)(grey, SampleDraws(0, 0, torch.arange(COUNT)), 1).view(COUNT, 3).double() - 128
    vectors, values = torch.tensor(EIGENVECTORS).double(), torch.tensor(EIGENVALUES).double()
    covariance = vectors.T @ (0.3 * 255 * values).square().diag() @ vectors + torch.eye(3) / 12  # 1/12: the rounding
    torch.testing.assert_close(colour.T.cov(), covariance, rtol=0.04, atol=0.1)
    assert colour.mean(0).abs().max() < 5 * 10 / COUNT**0.5
    along = (colour @ vectors[0]) / (0.3 * 255 * values[0])
    assert kstest(along.numpy(), "norm").pvalue > 1e-3


def test_pca_noise_refuses_grey_images() -> None:
    with pytest.raises(ValueError, match=r"augment\.pca_noise needs images in colour, got 1 channel"):
        PCANoise()(pictures(4, 5, 5, channels=1), SampleDraws(0, 0, torch.arange(4)), 5)

"""AugMix and 3-Augment: torchvision's and the authors' own, of the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from scipy.stats import beta, kstest
from torchvision.transforms import AugMix as TheirAugMix
from torchvision.transforms import Grayscale, InterpolationMode

from jobs.augment import AugMix, ThreeAugment
from jobs.augment.aug_mix import COLOURS, PAPERS, dirichlet
from jobs.augment.three_augment import blur, weights
from jobs.randomness import SampleDraws, generator
from tests.jobs.augment.pictures import pictures


class Told(TheirAugMix):
    """torchvision's, given what it would draw."""

    def tell(self, dirichlets: list[torch.Tensor], integers: list[int]) -> None:
        self.dirichlets, self.integers = dirichlets, integers

    def _sample_dirichlet(self, params: torch.Tensor) -> torch.Tensor:
        return self.dirichlets.pop(0)


@pytest.mark.parametrize(("severity", "width", "all_ops"), [(3, 3, True), (10, 2, False)])
def test_aug_mix_is_torchvisions(severity: int, width: int, all_ops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    count, size = 60, (33, 32)
    batch, draws = pictures(count, *size), SampleDraws(2, 1, torch.arange(count))
    ours = AugMix(severity=severity, width=width, all_ops=all_ops)(batch, draws, 32)
    uniform = draws.uniform("aug_mix", 2 + width * 11)
    m, w = dirichlet(uniform[:, :2], 1.0), dirichlet(uniform[:, 2 : 2 + width], 1.0)
    theirs = Told(severity, width, all_ops=all_ops, interpolation=InterpolationMode.NEAREST)
    names = [*PAPERS, *(COLOURS if all_ops else ())]
    signed = {name for name, (_, sign) in theirs._augmentation_space(10, size).items() if sign}
    flat = {"AutoContrast", "Equalize"}
    wrong = 0
    for number, image in enumerate(batch):
        integers: list[int] = []
        for lanes in uniform[number, 2 + width :].chunk(width):
            integers.append(int(lanes[0] * 3) + 1)
            for step in range(integers[-1]):
                choice, bin_, sign = lanes[1 + 3 * step : 4 + 3 * step].tolist()
                name = names[int(choice * len(names))]
                integers.append(int(choice * len(names)))
                integers += [] if name in flat else [int(bin_ * severity)]
                integers += [int(sign < 0.5)] if name in signed else []
            # torchvision draws the depth of a chain, then its operations
        theirs.tell([m[number][None].float(), w[number][None].float()], integers)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randint", lambda *_, **__: torch.tensor([theirs.integers.pop(0)]))
            expected = theirs(image.permute(2, 0, 1)).permute(1, 2, 0)
        assert not theirs.integers and not theirs.dirichlets
        wrong += int(((ours[number].int() - expected.int()).abs() > 1).sum())
    assert wrong < 1e-3 * ours.numel(), "only pixels halfway between two others may come from the other one"


def test_dirichlet_is_distributed_so() -> None:
    source = torch.rand(20_000, 3, generator=generator("dirichlet"), dtype=torch.float64)
    for alpha in (0.5, 1.0, 4.0):
        shares = dirichlet(source, alpha)
        assert (shares.sum(1) - 1).abs().max() < 1e-12
        assert kstest(shares[:, 0], beta(alpha, 2 * alpha).cdf).statistic < 1.95 / 20_000**0.5


def pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image[..., 0] if image.shape[2] == 1 else image).numpy())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (17, 24), (2, 3), (1, 1)])
def test_blur_is_pillows_to_the_last_level(size: tuple[int, int], channels: int) -> None:
    count = 200
    batch = torch.randint(256, (count, *size, channels), generator=generator("blur"), dtype=torch.uint8)
    deviation = torch.linspace(0.1, 2.0, count, dtype=torch.float64)
    for image, ours, radius in zip(batch, blur(batch, weights(deviation)), deviation.tolist(), strict=True):
        theirs = np.array(pil(image).filter(ImageFilter.GaussianBlur(radius))).reshape(image.shape)
        assert torch.equal(ours, torch.from_numpy(theirs)), radius


def test_three_augment_does_one_of_the_authors_three_evenly() -> None:
    count = 3000
    image = pictures(4, 24, 24)[0]
    draws = SampleDraws(0, 0, torch.arange(count))
    seen = [0, 0, 0]
    for ours, (choice, deviation) in zip(
        ThreeAugment()(image.expand(count, *image.shape), draws, 24),
        draws.uniform("three_augment", 2).tolist(),
        strict=True,
    ):
        which = int(choice * 3)
        seen[which] += 1
        original = pil(image)
        theirs = (
            Grayscale(3)(original),
            ImageOps.solarize(original),
            original.filter(ImageFilter.GaussianBlur(0.1 + 1.9 * deviation)),
        )[which]
        assert torch.equal(ours, torch.from_numpy(np.array(theirs)))
    assert all(abs(times - count / 3) < 4.5 * (count * 2 / 9) ** 0.5 for times in seen)


def test_grey_images_are_solarised_and_blurred_alone() -> None:
    batch = pictures(30, 9, 9, 1)
    changed = ThreeAugment()(batch, SampleDraws(0, 0, torch.arange(30)), 9)
    assert changed.shape == batch.shape and not torch.equal(changed, batch)

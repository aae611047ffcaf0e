"""CutMix: box and targets by hand, against torchvision's, and what its draws depend on."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import beta
from torchvision.transforms import v2

from jobs.batch import At, CutMix
from jobs.batch.cutmix import Box, box, cutmix
from jobs.batch.mixup import mixup
from jobs.randomness import generator

AT = At(epoch=0, step=0, part=0, epochs=10, steps=100)


def test_box_by_hand() -> None:
    assert box(0.75, row=8, column=4, height=16, width=8) == Box(4, 12, 2, 6)  # sides 8 and 4 around the centre
    assert box(0.75, row=1, column=7, height=16, width=8) == Box(0, 5, 5, 8)  # clipped above and on the right
    assert box(0.0, row=0, column=0, height=5, width=5) == Box(0, 2, 0, 2)
    assert box(1.0, row=3, column=3, height=5, width=5) == Box(3, 3, 3, 3)
    assert box(0.5, row=2, column=2, height=5, width=7) == Box(1, 3, 0, 4)  # half sides 1.77 and 2.47, rounded down


def test_pixels_by_hand() -> None:
    x = torch.arange(18.0).view(2, 1, 3, 3)
    mixed = cutmix(x, torch.tensor([1, 0]), Box(0, 2, 1, 3))
    assert mixed[0, 0].tolist() == [[0, 10, 11], [3, 13, 14], [6, 7, 8]]
    assert mixed[1, 0].tolist() == [[9, 1, 2], [12, 4, 5], [15, 16, 17]]
    assert torch.equal(cutmix(x, torch.tensor([1, 0]), Box(1, 1, 0, 3)), x)
    assert torch.equal(cutmix(x, torch.tensor([1, 0]), Box(0, 3, 0, 3)), x.flip(0))


@pytest.mark.parametrize("size", [(32, 32), (9, 7), (8, 13)])
def test_boxes_images_and_targets_are_torchvisions(size: tuple[int, int]) -> None:
    height, width = size
    x = torch.randn(5, 3, *size, generator=generator("x"))
    labels = torch.tensor([0, 3, 1, 2, 3])
    theirs, shares = v2.CutMix(alpha=1.0, num_classes=4), set()
    for seed in range(200):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            images, targets = theirs(x, labels)
            torch.manual_seed(seed)  # the draws behind it, in its order
            lam = float(theirs._dist.sample(()))
            column, row = int(torch.randint(width, (1,))), int(torch.randint(height, (1,)))
        cut, perm = box(lam, row, column, height, width), torch.arange(5).roll(1)
        share = (cut.bottom - cut.top) * (cut.right - cut.left) / (height * width)
        assert torch.equal(cutmix(x, perm, cut), images)
        torch.testing.assert_close(mixup(torch.eye(4)[labels], 1 - share, perm), targets)
        shares.add(share)
    assert len(shares) > 20


def drawn(trick: CutMix, seed: int, height: int = 31, width: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Which image each pixel of each image comes from, and the targets' weights of all images."""
    count = 16
    x = torch.arange(count, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, height, width)
    mixed, y = trick(x, torch.eye(count, dtype=torch.float64), generator(seed), AT)
    return mixed[:, 0].long(), y


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_targets_are_the_shares_of_the_pixels(alpha: float) -> None:
    for seed in range(50):
        source, y = drawn(CutMix(alpha=alpha), seed)
        shares = torch.stack([torch.bincount(image.flatten(), minlength=16) for image in source]) / source[0].numel()
        torch.testing.assert_close(y, shares.double(), rtol=0, atol=1e-7)


def moved(seed: int) -> tuple[int, int]:
    """An image and its partner, another one: the permutation is the generator's first draw."""
    perm = torch.randperm(16, generator=generator(seed))
    image = int((perm != torch.arange(16)).nonzero()[0])
    return image, int(perm[image])


def test_partners_and_centre_do_not_depend_on_alpha_and_lambda_is_one_quantile() -> None:
    compared = 0
    for seed in range(60):
        image, partner = moved(seed)
        centres, quantiles = set(), []
        for alpha in (1.0, 2.0, 4.0):
            source, y = drawn(CutMix(alpha=alpha), seed, 201, 201)
            assert source[image].unique().tolist() == sorted((image, partner))
            rows, columns = (source[image] == partner).nonzero().unbind(1)
            edges = int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1
            if min(edges) > 0 and max(edges) < 201:
                centres.add(((edges[0] + edges[1]) / 2, (edges[2] + edges[3]) / 2))
                quantiles.append(beta.cdf(y[image, image].item(), alpha, alpha))
        assert len(centres) <= 1
        assert max(quantiles, default=0) - min(quantiles, default=0) < 0.05  # sides are rounded to pixels
        compared += len(quantiles) == 3
    assert compared >= 3


def test_centres_are_uniform_over_the_pixels() -> None:
    """How often each pixel is cut, against all centres counted out; alpha holds lam near 1/2, half sides at 2."""
    count, cut = 1000, torch.zeros(8, 8)
    for seed in range(count):
        source, _ = drawn(CutMix(alpha=1e4), seed, 8, 8)
        image, partner = moved(seed)
        cut += source[image] == partner
    line = torch.tensor([sum(centre - 2 <= pixel < centre + 2 for centre in range(8)) / 8 for pixel in range(8)])
    expected = line[:, None] * line
    assert expected.min() == (2 / 8) ** 2 and expected.max() == (4 / 8) ** 2
    sd = (expected * (1 - expected) / count).sqrt()
    assert ((cut / count - expected).abs() < 4.5 * sd).all()


def test_last_epochs_train_without_it() -> None:
    x, y = torch.randn(32, 1, 8, 8), torch.eye(32)
    for epoch in range(10):
        same = CutMix(off_epochs=2)(x, y, generator("off", epoch), At(epoch, 0, 0, 10, 100))[0] is x
        assert same == (epoch >= 8)

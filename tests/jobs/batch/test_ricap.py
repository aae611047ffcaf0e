"""RICAP: patches and weights by hand and pixel by pixel, empty patches, and what its draws depend on."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import beta as beta_distribution

from jobs.batch import RICAP, At
from jobs.batch.ricap import patch, sizes, weigh
from jobs.randomness import generator

AT = At(epoch=0, step=0, part=0, epochs=10, steps=100)
COUNT = 16


def test_sizes_by_hand() -> None:
    assert sizes(5, 7, h=2, w=3) == [(2, 3), (2, 4), (3, 3), (3, 4)]
    assert sizes(5, 7, h=0, w=7) == [(0, 7), (0, 0), (5, 7), (5, 0)]


def test_patches_by_hand() -> None:
    x = torch.stack([torch.arange(9.0).view(1, 3, 3) + 10 * image for image in range(2)])
    perms = [torch.tensor(perm) for perm in ([0, 1], [1, 0], [1, 0], [0, 1])]
    mixed = patch(x, perms, h=1, w=2, corners=[(2, 0), (0, 1), (1, 1), (0, 2)])
    #  upper left: row 2, columns 0, 1 of itself;     upper right: pixel (0, 1) of the other
    #  lower left: from (1, 1) on, 2 x 2, the other;  lower right: from (0, 2) on, 2 x 1, of itself
    assert mixed[0, 0].tolist() == [[6, 7, 11], [14, 15, 2], [17, 18, 5]]
    assert mixed[1, 0].tolist() == [[16, 17, 1], [4, 5, 12], [7, 8, 15]]
    y = weigh(torch.eye(2), perms, [2 / 9, 1 / 9, 4 / 9, 2 / 9])
    torch.testing.assert_close(y, torch.tensor([[4 / 9, 5 / 9], [5 / 9, 4 / 9]]))


@pytest.mark.parametrize(("h", "w"), [(0, 0), (0, 2), (4, 0), (4, 3), (2, 3), (1, 2)])
def test_patches_are_those_of_plain_loops(h: int, w: int) -> None:
    source = generator("loops", h, w)
    x = torch.randn(6, 2, 4, 3, generator=source)
    perms = [torch.randperm(6, generator=source) for _ in range(4)]
    shapes = sizes(4, 3, h, w)
    corners = [(4 - rows, 3 - columns) for rows, columns in shapes]  # the last place that a crop can have
    expected = torch.full_like(x, float("nan"))
    for image in range(6):
        for row in range(4):
            for column in range(3):
                k = 2 * (row >= h) + (column >= w)
                inner = row - (h if row >= h else 0), column - (w if column >= w else 0)
                pixel = x[perms[k][image], :, corners[k][0] + inner[0], corners[k][1] + inner[1]]
                expected[image, :, row, column] = pixel
    assert torch.equal(patch(x, perms, h, w, corners), expected)


def drawn(beta: float, seed: int, height: int = 12, width: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The image and the pixel that each pixel comes from, both ``(N, H, W)``, and the targets."""
    images = torch.arange(COUNT, dtype=torch.float64).view(-1, 1, 1).expand(-1, height, width)
    pixels = torch.arange(height * width, dtype=torch.float64).view(height, width).expand(COUNT, -1, -1)
    x = torch.stack((images, pixels), 1)
    mixed, y = RICAP(beta=beta)(x, torch.eye(COUNT, dtype=torch.float64), generator(seed), AT)
    return mixed[:, 0].long(), mixed[:, 1].long(), y


@pytest.mark.parametrize("beta", [0.3, 1.0, 50.0])
def test_weights_are_the_areas_of_the_patches(beta: float) -> None:
    for seed in range(50):
        images, _, y = drawn(beta, seed)
        shares = torch.stack([image.flatten().bincount(minlength=COUNT) for image in images]) / images[0].numel()
        torch.testing.assert_close(y, shares.double(), rtol=0, atol=1e-7)


def meeting(beta: float, seed: int, height: int, width: int) -> tuple[int, int]:
    """h and w, worked out from the documented order of the draws by SciPy's quantiles."""
    source = generator(seed)
    for _ in range(4):
        torch.randperm(COUNT, generator=source)
    across, down = torch.rand(10, generator=source, dtype=torch.float64).tolist()[:2]
    h, w = (height, width) * beta_distribution.ppf([down, across], beta, beta)
    return round(h), round(w)


def test_crops_are_whole_pieces_with_permutations_of_their_own() -> None:
    corners = set()
    for seed in range(60):
        images, pixels, _ = drawn(1.0, seed)
        h, w = meeting(1.0, seed, 12, 9)
        source = generator(seed)
        perms = [torch.randperm(COUNT, generator=source) for _ in range(4)]
        quadrants = [(slice(a, b), slice(c, d)) for a, b in ((0, h), (h, 12)) for c, d in ((0, w), (w, 9))]
        for perm, (rows, columns) in zip(perms, quadrants, strict=True):
            piece, place = images[:, rows, columns], pixels[:, rows, columns]
            assert (piece == perm[:, None, None]).all()
            if piece.numel():
                height, width = piece.shape[1:]
                corner = int(place[0, 0, 0])
                crop = corner + 9 * torch.arange(height)[:, None] + torch.arange(width)
                assert (place == crop).all()
                assert corner // 9 + height <= 12
                assert corner % 9 + width <= 9
                corners.add((corner // 9, corner % 9))
    assert len(corners) > 40


def test_crops_reach_every_place() -> None:
    """At a large beta the quadrants are halves, so the upper left crop has 5 x 4 places; each comes as often."""
    count = 2000
    seen = torch.zeros(5, 4)
    for seed in range(count):
        _, pixels, _ = drawn(1e4, seed, 8, 6)
        row, column = divmod(int(pixels[0, 0, 0]), 6)
        seen[row, column] += 1
    expected = count / 20
    assert ((seen - expected) ** 2 / expected).sum() < 19 + 4.5 * 38**0.5


def test_empty_patches_are_as_frequent_as_the_fact_sheet_says() -> None:
    """At beta 0.3 and 32 pixels, 54 % of batches hold one, and the mean of the largest weight is 0.75."""
    count, empty, largest = 2000, 0, 0.0
    x, y = torch.zeros(2, 1, 32, 32), torch.eye(2)
    for seed in range(count):
        h, w = meeting(0.3, seed, 32, 32)
        areas = [rows * columns for rows, columns in sizes(32, 32, h, w)]
        empty += min(areas) == 0
        largest += max(areas) / 1024
        if seed < 100:
            assert RICAP()(x, y, generator(seed), AT)[0].isfinite().all()
    assert empty / count == pytest.approx(0.54, abs=4 * (0.25 / count) ** 0.5)
    assert largest / count == pytest.approx(0.75, abs=4 * 0.2 / count**0.5)


def test_images_do_not_depend_on_beta() -> None:
    for seed in range(10):
        first, second = drawn(1.0, seed, 60, 60), drawn(3.0, seed, 60, 60)
        (h, w), (height, width) = meeting(1.0, seed, 60, 60), meeting(3.0, seed, 60, 60)
        both = torch.zeros(60, 60, dtype=torch.bool)
        both[: min(h, height), : min(w, width)] = True
        both[max(h, height) :, max(w, width) :] = True
        assert (h, w) != (height, width)
        assert torch.equal(first[0][:, both], second[0][:, both])


def test_last_epochs_train_without_it() -> None:
    x, y = torch.randn(32, 1, 8, 8), torch.eye(32)
    for epoch in range(10):
        same = RICAP(off_epochs=2)(x, y, generator("off", epoch), At(epoch, 0, 0, 10, 100))[0] is x
        assert same == (epoch >= 8)

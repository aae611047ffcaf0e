"""The arithmetic of the batch tricks, by hand and against torch and SciPy."""

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import beta, kstest
from torch.nn.functional import cross_entropy, one_hot

from jobs.batch import At, LabelSmoothing, Mixup
from jobs.batch.label_smoothing import label_smoothing
from jobs.batch.mixup import mixup
from jobs.randomness import generator

AT = At(epoch=0, step=0, part=0, epochs=10, steps=100)


def targets(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return one_hot(labels, classes).double()


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(6, 5, generator=generator("logits"), dtype=torch.float64)


LABELS = torch.tensor([0, 4, 2, 2, 1, 3])


def smoothed(spec: LabelSmoothing, y: torch.Tensor) -> torch.Tensor:
    x = torch.zeros(len(y), 1, 1, 1)
    same, out = spec(x, y, generator(0), AT)
    assert same is x
    return out


def test_smoothing_by_hand() -> None:
    y = torch.tensor([[0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    tight = {"rtol": 0, "atol": 1e-15}
    uniform = smoothed(LabelSmoothing(epsilon=0.2), y)
    torch.testing.assert_close(uniform, torch.tensor([[0.05, 0.85, 0.05, 0.05]], dtype=torch.float64), **tight)
    others = smoothed(LabelSmoothing(epsilon=0.3, form="others"), y)
    torch.testing.assert_close(others, torch.tensor([[0.1, 0.7, 0.1, 0.1]], dtype=torch.float64), **tight)
    assert torch.equal(smoothed(LabelSmoothing(epsilon=0), y), y)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
def test_uniform_smoothing_is_torchs(logits: torch.Tensor, epsilon: float) -> None:
    y = smoothed(LabelSmoothing(epsilon=epsilon), targets(LABELS, 5))
    torch.testing.assert_close(cross_entropy(logits, y), cross_entropy(logits, LABELS, label_smoothing=epsilon))
    soft = torch.softmax(logits.flip(0), 1)
    torch.testing.assert_close(
        cross_entropy(logits, label_smoothing(soft, epsilon)), cross_entropy(logits, soft, label_smoothing=epsilon)
    )


def test_smoothing_over_others_is_torchs_at_another_epsilon(logits: torch.Tensor) -> None:
    y = smoothed(LabelSmoothing(epsilon=0.1, form="others"), targets(LABELS, 5))
    torch.testing.assert_close(cross_entropy(logits, y), cross_entropy(logits, LABELS, label_smoothing=0.1 * 5 / 4))


def test_mixup_by_hand() -> None:
    x = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1)
    assert mixup(x, 0.75, torch.tensor([2, 0, 1])).flatten().tolist() == [1.75, 1.75, 3.5]
    y = torch.eye(3)
    assert mixup(y, 0.75, torch.tensor([2, 1, 0])).tolist() == [[0.75, 0, 0.25], [0, 1, 0], [0.25, 0, 0.75]]
    each = torch.tensor([0.75, 0.5, 0.0])
    assert mixup(x, each, torch.tensor([2, 0, 1])).flatten().tolist() == [1.75, 1.5, 2.0]
    assert mixup(y, each, torch.tensor([2, 0, 1])).tolist() == [[0.75, 0, 0.25], [0.5, 0.5, 0], [0, 1, 0]]


def test_loss_of_mixed_targets_is_the_authors_two_losses(logits: torch.Tensor) -> None:
    lam, perm = 0.3, torch.tensor([3, 0, 1, 5, 4, 2])
    mixed = cross_entropy(logits, mixup(targets(LABELS, 5), lam, perm))
    two = lam * cross_entropy(logits, LABELS) + (1 - lam) * cross_entropy(logits, LABELS[perm])
    torch.testing.assert_close(mixed, two)


def test_loss_of_targets_mixed_by_sample_is_the_two_losses_of_each(logits: torch.Tensor) -> None:
    lam, perm = torch.rand(6, generator=generator("lam"), dtype=torch.float64), torch.tensor([3, 0, 1, 5, 4, 2])
    mixed = cross_entropy(logits, mixup(targets(LABELS, 5), lam, perm), reduction="none")
    own, other = (cross_entropy(logits, labels, reduction="none") for labels in (LABELS, LABELS[perm]))
    torch.testing.assert_close(mixed, lam * own + (1 - lam) * other)


def test_smoothing_and_mixing_commute() -> None:
    y, lam, perm = targets(LABELS, 5), 0.3, torch.tensor([3, 0, 1, 5, 4, 2])
    torch.testing.assert_close(
        label_smoothing(mixup(y, lam, perm), 0.1), mixup(label_smoothing(y, 0.1), lam, perm), rtol=0, atol=1e-15
    )


def draw(alpha: float, *place: int, count: int = 32) -> tuple[float, list[int]]:
    """The lambda and the partners that the trick draws, read off its output."""
    x = torch.eye(count, dtype=torch.float64).view(count, 1, 1, count)
    mixed, y = Mixup(alpha=alpha)(x, x.view(count, count), generator(*place), AT)
    assert torch.equal(mixed.view(count, count), y)
    perm = torch.randperm(count, generator=generator(*place))  # the first draw of the generator
    moved = (perm != torch.arange(count)).nonzero()[0].item()
    lam = y[moved, moved].item()
    torch.testing.assert_close(
        y, lam * torch.eye(count, dtype=y.dtype) + (1 - lam) * torch.eye(count, dtype=y.dtype)[perm]
    )
    return lam, perm.tolist()


def test_partners_do_not_depend_on_alpha_and_lambda_is_one_quantile() -> None:
    quantiles = set()
    for alpha in (0.5, 1.0, 2.0, 8.0):
        lam, partners = draw(alpha, 11, 3)
        quantiles.add(round(beta.cdf(lam, alpha, alpha), 9))
        assert partners == draw(0.2, 11, 3)[1]
    assert len(quantiles) == 1
    assert draw(1.0, 11, 4) != draw(1.0, 11, 3)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_is_beta_distributed(alpha: float) -> None:
    lams = torch.tensor([draw(alpha, 5, place)[0] for place in range(2000)], dtype=torch.float64)
    expected = 1 / (4 * (2 * alpha + 1))
    assert lams.mean().item() == pytest.approx(0.5, abs=4 * (expected / 2000) ** 0.5)
    assert lams.var().item() == pytest.approx(expected, rel=0.1)


def by_sample(alpha: float, place: int, count: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    """Lambda of every image that has another one as its partner, and the partners of all, read off the output."""
    y = torch.eye(count, dtype=torch.float64)
    x, soft = Mixup(alpha=alpha, per="sample")(y.view(count, 1, 1, count), y, generator(place), AT)
    assert torch.equal(x.view(count, count), soft)
    perm = torch.randperm(count, generator=generator(place))  # the first draw of the generator
    lam = soft.diagonal()
    torch.testing.assert_close(soft, lam[:, None] * y + (1 - lam[:, None]) * y[perm])
    return lam[perm != torch.arange(count)], perm


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_every_sample_can_have_a_lambda_of_its_own(alpha: float) -> None:
    lam = torch.cat([by_sample(alpha, place)[0] for place in range(20)])
    assert kstest(lam, beta(alpha, alpha).cdf).statistic < 1.95 / len(lam) ** 0.5
    first, second = by_sample(alpha, 0), by_sample(7.0, 0)
    assert torch.equal(first[1], second[1])
    quantiles = (beta.cdf(lams, shape, shape) for (lams, _), shape in ((first, alpha), (second, 7.0)))
    assert max(abs(one - other) for one, other in zip(*quantiles, strict=True)) < 1e-5


def test_last_epochs_train_without_mixing() -> None:
    x, y = torch.randn(32, 1, 2, 2), torch.eye(32)
    trick = Mixup(alpha=1.0, off_epochs=2)
    for epoch in range(10):
        at = At(epoch=epoch, step=epoch * 10, part=0, epochs=10, steps=100)
        mixed, soft = trick(x, y, generator(epoch), at)
        assert torch.equal(mixed, x) == torch.equal(soft, y) == (epoch >= 8), epoch
    assert not torch.equal(Mixup(alpha=1.0)(x, y, generator(9), At(9, 99, 0, 10, 100))[0], x)


@pytest.mark.parametrize("alpha", [0, -1, 1e-5, 1e5, float("nan")])
def test_alpha_whose_distribution_cannot_be_drawn_from_is_refused(alpha: float) -> None:
    with pytest.raises(ValidationError, match="alpha"):
        Mixup(alpha=alpha)

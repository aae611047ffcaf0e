"""Losses by hand and against torch's own and timm's."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

from jobs.batch import At, LabelSmoothing
from jobs.losses import BCE, CrossEntropy
from jobs.randomness import generator
from tests.jobs.digits_job import job

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 3.0]], dtype=torch.float64)
SOFT = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.4, 0.6]], dtype=torch.float64)
AT = At(epoch=0, step=0, part=0, epochs=1, steps=1)


def test_cross_entropy_by_hand() -> None:
    log_p = LOGITS - LOGITS.exp().sum(1, keepdim=True).log()
    assert CrossEntropy()(LOGITS, SOFT).item() == pytest.approx(float(-(SOFT * log_p).sum() / 2), abs=1e-14)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5])
def test_smoothed_targets_are_torchs_label_smoothing(epsilon: float) -> None:
    labels = torch.tensor([0, 2])
    _, y = LabelSmoothing(epsilon=epsilon)(LOGITS, torch.eye(3, dtype=torch.float64)[labels], generator(0), AT)
    expected = cross_entropy(LOGITS, labels, label_smoothing=epsilon)
    torch.testing.assert_close(CrossEntropy()(LOGITS, y), expected, rtol=0, atol=1e-14)


def test_class_weights_are_torchs_with_soft_targets() -> None:
    weight = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    expected = cross_entropy(LOGITS, SOFT, weight=weight)
    torch.testing.assert_close(CrossEntropy()(LOGITS, SOFT, weight), expected, rtol=0, atol=1e-14)


def test_class_weights_compose_with_mixing() -> None:
    """Weighting mixed targets is mixing the weighted losses."""
    weight = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    one, other = torch.eye(3, dtype=torch.float64)[[0, 2]], torch.eye(3, dtype=torch.float64)[[1, 1]]
    loss = CrossEntropy()
    mixed = loss(LOGITS, 0.3 * one + 0.7 * other, weight)
    torch.testing.assert_close(mixed, 0.3 * loss(LOGITS, one, weight) + 0.7 * loss(LOGITS, other, weight))


@pytest.mark.parametrize(("threshold", "sum_classes"), [(None, False), (0.2, False), (None, True)])
def test_bce_equals_timms(threshold: float | None, sum_classes: bool) -> None:
    from timm.loss import BinaryCrossEntropy

    reference = BinaryCrossEntropy(smoothing=0.0, target_threshold=threshold, sum_classes=sum_classes)
    ours = BCE(target_threshold=threshold, sum_classes=sum_classes)(LOGITS, SOFT)
    torch.testing.assert_close(ours, reference(LOGITS, SOFT))


def test_bce_by_hand_counts_targets_above_the_threshold_only() -> None:
    hard = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)  # 0.2 is not above 0.2
    p = LOGITS.sigmoid()
    expected = -(hard * p.log() + (1 - hard) * (1 - p).log()).mean()
    torch.testing.assert_close(BCE(target_threshold=0.2)(LOGITS, SOFT), expected)


@pytest.mark.parametrize("trick", [{"kind": "mixup"}, {"kind": "label_smoothing"}])
def test_bce_on_soft_targets_asks_what_they_mean(trick: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"(?s)soft_targets: true .*loss.target_threshold"):
        job(batch=[trick], loss={"kind": "bce"})
    for said in ({"soft_targets": True}, {"target_threshold": 0.2}):
        assert job(batch=[trick], loss={"kind": "bce", **said}).batch
    with pytest.raises(ValidationError, match="give one of the two"):
        BCE(soft_targets=True, target_threshold=0.2)

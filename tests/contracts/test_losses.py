"""Every loss keeps the contract of ``jobs.losses.loss``."""

from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter

from jobs.losses import BCE, CrossEntropy, Loss, LossSpec
from jobs.randomness import generator

EXAMPLES: list[Loss] = [
    CrossEntropy(),
    BCE(),
    BCE(soft_targets=True),
    BCE(target_threshold=0.0),
    BCE(target_threshold=0.99, sum_classes=True),
]

each = pytest.mark.parametrize("loss", EXAMPLES, ids=lambda loss: loss.model_dump_json())


def batch(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    source = generator("losses")
    return (
        torch.randn(6, 4, generator=source, dtype=torch.float64).to(dtype),
        torch.randn(6, 4, generator=source, dtype=torch.float64).softmax(1),
    )


def test_every_kind_has_an_example() -> None:
    assert {type(loss) for loss in EXAMPLES} == set(get_args(get_args(LossSpec)[0]))


@each
def test_json_round_trip(loss: Loss) -> None:
    assert TypeAdapter(LossSpec).validate_json(loss.model_dump_json()) == loss


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_finite_scalar_in_at_least_fp32_with_gradients(loss: Loss, dtype: torch.dtype) -> None:
    logits, targets = batch(dtype)
    logits.requires_grad_()
    value = loss(logits, targets)
    assert value.shape == ()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    value.backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad.abs().sum() > 0


@each
def test_weights_of_one_change_nothing_and_a_weight_of_zero_silences_a_class(loss: Loss) -> None:
    logits, targets = batch(torch.float64)
    torch.testing.assert_close(loss(logits, targets, torch.ones(4)), loss(logits, targets))
    only = torch.zeros(6, 4, dtype=torch.float64)
    only[:, 2] = 1
    silent = torch.tensor([1.0, 1.0, 0.0, 1.0])
    if isinstance(loss, CrossEntropy):
        assert loss(logits, only, silent) == 0
    else:
        rest = loss.model_copy()(logits[:, [0, 1, 3]], only[:, [0, 1, 3]])
        share = 1 if getattr(loss, "sum_classes", False) else 3 / 4
        torch.testing.assert_close(loss(logits, only, silent), rest * share)

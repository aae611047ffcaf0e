"""Every batch trick keeps the contract of ``jobs.batch.trick``, at ordinary values and at the ends of its ranges."""

from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter

from jobs.batch import At, BatchSpec, BatchTrick, LabelSmoothing, Mixup
from jobs.randomness import generator

EXAMPLES: list[BatchTrick] = [
    LabelSmoothing(),
    LabelSmoothing(epsilon=0.0),
    LabelSmoothing(epsilon=0.999),
    LabelSmoothing(epsilon=0.999, form="others"),
    Mixup(),
    Mixup(alpha=1e-4),
    Mixup(alpha=1e4),
    Mixup(off_epochs=1_000_000),
]
AT = At(epoch=1, step=13, part=0, epochs=3, steps=30)

each = pytest.mark.parametrize("trick", EXAMPLES, ids=lambda trick: trick.model_dump_json())


def batch(count: int, classes: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    source = generator("batch", count)
    x = torch.randn(count, 3, 5, 4, generator=source, dtype=dtype)
    return x, torch.eye(classes, dtype=dtype)[torch.randint(classes, (count,), generator=source)]


def test_every_kind_has_an_example() -> None:
    assert {type(trick) for trick in EXAMPLES} == set(get_args(get_args(BatchSpec)[0]))


@each
def test_json_round_trip(trick: BatchTrick) -> None:
    assert TypeAdapter(BatchSpec).validate_json(trick.model_dump_json()) == trick


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("count", "classes"), [(8, 10), (7, 2), (1, 3)])
def test_shapes_dtypes_and_sums_are_kept(trick: BatchTrick, dtype: torch.dtype, count: int, classes: int) -> None:
    x, y = batch(count, classes, dtype)
    for place in range(20):
        mixed, soft = trick(x, y, generator(place), AT)
        assert (mixed.shape, mixed.dtype) == (x.shape, dtype)
        assert (soft.shape, soft.dtype) == (y.shape, dtype)
        assert mixed.isfinite().all()
        assert (soft >= 0).all()
        torch.testing.assert_close(soft.sum(1), torch.ones(count, dtype=dtype), rtol=0, atol=4 * torch.finfo(dtype).eps)


@each
def test_input_is_left_alone_and_same_generator_gives_same_output(trick: BatchTrick) -> None:
    x, y = batch(8, 10, torch.float32)
    before, state = (x.clone(), y.clone()), torch.get_rng_state()
    first = trick(x, y, generator(3), AT)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    second = trick(x, y, generator(3), AT)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(state, torch.get_rng_state())


@each
def test_targets_may_be_soft_already(trick: BatchTrick) -> None:
    x, _ = batch(8, 4, torch.float64)
    y = torch.softmax(torch.randn(8, 4, generator=generator("soft"), dtype=torch.float64), 1)
    _, soft = trick(x, y, generator(3), AT)
    torch.testing.assert_close(soft.sum(1), torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-14)

"""Every batch trick keeps the contract of ``jobs.batch.trick``, at ordinary values and at the ends of its ranges."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter

from jobs.batch import RICAP, At, BatchSpec, BatchTrick, CutMix, Cutout, LabelSmoothing, Mixup, RandomErasing
from jobs.batch.trick import Mixing, PerSample
from jobs.randomness import generator

EXAMPLES: list[BatchTrick] = [
    *(kind() for kind in get_args(get_args(BatchSpec)[0])),  # every kind as it is by default
    Cutout(size=1),
    Cutout(size=3),
    Cutout(size=100_000),
    RandomErasing(probability=1.0, fill="noise"),
    RandomErasing(probability=0.0, aspect="log_uniform", fill="noise"),
    RandomErasing(probability=1.0, scale=(0.0, 0.0), ratio=(1e-3, 1e-3)),
    RandomErasing(probability=1.0, scale=(1.0, 1.0), ratio=(1e3, 1e3), aspect="log_uniform"),
    RandomErasing(probability=1.0, scale=(0.0, 1.0), ratio=(1e-3, 1e3), aspect="log_uniform"),
    LabelSmoothing(epsilon=0.0),
    LabelSmoothing(epsilon=0.999),
    LabelSmoothing(epsilon=0.999, form="others"),
    Mixup(alpha=1e-4),
    Mixup(alpha=1e4),
    Mixup(off_epochs=1_000_000, share=0.0),
    Mixup(per="sample"),
    Mixup(per="sample", alpha=1e-4),
    Mixup(per="sample", alpha=1e4),
    CutMix(alpha=1e-4),
    CutMix(alpha=1e4),
    CutMix(off_epochs=1_000_000),
    RICAP(beta=1e-4),
    RICAP(beta=1e4),
    RICAP(off_epochs=1_000_000),
]
AT = At(epoch=1, step=13, part=0, epochs=3, steps=30)

each = pytest.mark.parametrize("trick", EXAMPLES, ids=lambda trick: trick.model_dump_json())


def batch(
    count: int, classes: int, dtype: torch.dtype, size: tuple[int, int] = (5, 4)
) -> tuple[torch.Tensor, torch.Tensor]:
    source = generator("batch", count)
    x = torch.randn(count, 3, *size, generator=source, dtype=dtype)
    return x, torch.eye(classes, dtype=dtype)[torch.randint(classes, (count,), generator=source)]


@each
def test_json_round_trip(trick: BatchTrick) -> None:
    assert TypeAdapter(BatchSpec).validate_json(trick.model_dump_json()) == trick


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("count", "classes", "size"), [(8, 10, (5, 4)), (7, 2, (33, 32)), (1, 3, (5, 4)), (1, 3, (1, 1)), (2, 2, (1, 17))]
)
def test_shapes_dtypes_and_sums_are_kept(
    trick: BatchTrick, dtype: torch.dtype, count: int, classes: int, size: tuple[int, int]
) -> None:
    x, y = batch(count, classes, dtype, size)
    for place in range(20):
        mixed, soft = trick(x, y, generator(place), AT)
        assert (mixed.shape, mixed.dtype) == (x.shape, dtype)
        assert (soft.shape, soft.dtype) == (y.shape, dtype)
        assert mixed.isfinite().all()
        assert (soft >= 0).all()
        torch.testing.assert_close(soft.sum(1), torch.ones(count, dtype=dtype), rtol=0, atol=4 * torch.finfo(dtype).eps)


@each
def test_memory_layout_is_kept(trick: BatchTrick) -> None:
    x, y = batch(8, 10, torch.float32)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    for place in range(5):
        mixed, soft = trick(channels_last, y, generator(place), AT)
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        other, same = trick(x, y, generator(place), AT)
        assert other.is_contiguous()
        assert torch.equal(mixed, other)
        assert torch.equal(soft, same)


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
def test_what_pairs_no_images_is_the_same_whatever_the_parts(trick: BatchTrick) -> None:
    x, y = batch(8, 10, torch.float64, (9, 8))
    whole = [replace(AT, step=step, part=0) for step in range(5)]
    results = [torch.cat([part[0] for part in in_parts(trick, x, y, parts, whole)]) for parts in (1, 2, 4)]
    if isinstance(trick, Mixing):
        return
    assert isinstance(trick, PerSample | LabelSmoothing), "a trick that draws says for what it does"
    assert all(torch.equal(results[0], result) for result in results[1:])


def in_parts(
    trick: BatchTrick, x: torch.Tensor, y: torch.Tensor, parts: int, places: list[At]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batch as that many parts see it at each place, one after the other."""
    return [
        trick(images, targets, trick.source(0, at), at)
        for place in places
        for part, (images, targets) in enumerate(zip(x.chunk(parts), y.chunk(parts), strict=True))
        for at in [replace(place, part=part)]
    ]


@each
def test_targets_may_be_soft_already(trick: BatchTrick) -> None:
    x, _ = batch(8, 4, torch.float64)
    y = torch.softmax(torch.randn(8, 4, generator=generator("soft"), dtype=torch.float64), 1)
    _, soft = trick(x, y, generator(3), AT)
    torch.testing.assert_close(soft.sum(1), torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-14)

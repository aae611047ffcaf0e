"""The processes that tests share: nothing goes from one call to the next, and a failure is told."""

from __future__ import annotations

import os

import pytest
import torch

from jobs.place import Place
from tests import world


def stand() -> tuple[int, int, int]:
    place = Place.current(use_gpu=False)
    total = torch.tensor([place.rank + 1])
    place.sum(total)
    return place.rank, place.world, int(total)


def draw() -> float:
    return float(torch.rand(()))


def die_on_rank_1() -> None:
    if Place.current(use_gpu=False).rank == 1:
        os._exit(7)
    torch.distributed.all_reduce(torch.zeros(1))


def leave_something() -> None:
    torch.set_default_dtype(torch.float64)


def test_worlds_of_several_sizes_share_their_processes() -> None:
    assert [tuple(place) for place in world.run(2, stand)] == [(0, 2, 3), (1, 2, 3)]
    assert [tuple(place) for place in world.run(1, stand)] == [(0, 1, 1)]
    assert [tuple(place) for place in world.run(3, stand)] == [(0, 3, 6), (1, 3, 6), (2, 3, 6)]


def test_the_state_of_the_global_generator_cannot_be_counted_on() -> None:
    drawn = world.run(2, draw) + world.run(2, draw)
    assert len(set(drawn)) == 4


@pytest.mark.slow
def test_a_failure_in_one_rank_ends_the_others_and_is_told() -> None:
    with pytest.raises(RuntimeError, match="rank 1 of 2: its process ended with exit code 7"):
        world.run(2, die_on_rank_1)
    with pytest.raises(RuntimeError, match="left behind"):
        world.run(1, leave_something)
    assert len(world.run(2, stand)) == 2

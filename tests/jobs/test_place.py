"""When ranks talk to each other, and what wrapping a network in DDP leaves alone."""

import time
import warnings

import torch
from torch import nn

from jobs.place import Agreement, Place
from tests import world


def spoken(start: int, updates: int, seconds: float) -> list[int]:
    """Steps of the exchanges, of updates that take so long each."""
    agreement, found = Agreement(Place(), start, seconds=0.02), []
    for step in range(start + 1, start + updates + 1):
        time.sleep(seconds)
        if agreement.due(step):
            agreement.exchange(step, 0)
            found.append(step)
    return found


def test_who_goes_on_late_speaks_as_often_as_who_begins() -> None:
    assert len(spoken(1_000_000, 20, 0.02)) >= 10
    assert len(spoken(0, 20, 0.02)) >= 10


def test_fast_updates_do_not_speak_at_each() -> None:
    assert len(spoken(0, 400, 0)) < 200


def wrapped() -> torch.Tensor:
    place, network = Place.current(use_gpu=False), nn.BatchNorm1d(2)
    assert network.running_mean is not None
    network.running_mean.fill_(place.rank)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ddp = place.wrap(network)
    ddp(torch.ones(2, 2) * place.rank)
    return network.running_mean


def test_ddp_does_not_warn_and_each_rank_keeps_its_own_buffers() -> None:
    first, second = world.run(2, wrapped)
    assert first.tolist() == [0.0, 0.0] and second.tolist() == [1.0, 1.0]

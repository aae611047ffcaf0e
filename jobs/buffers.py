"""Running statistics (BatchNorm's and kin) of a network that is trained in parts, on one or several ranks.

Each of the P parts of a global batch is normalised by its own mean and variance, but the running statistics move once
an update, towards the mean over all parts: ``running = (1 - momentum) running + momentum mean_p(statistics_p)``. So
momentum means the same whatever the accumulation, and workers x accumulation may be split in any way. Between
evaluations each rank has the mean over its own parts alone, which is cheap and, since the rule is linear, enough: the
mean over ranks of those is the mean over all parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from jobs.place import Place


class Parts:
    """Averages a network's float buffers over the parts that one rank sees in an update; counters count updates.

    Args:
        network: not wrapped; its buffers are read and written in place.
        count: parts an update on this rank (the accumulation).
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        self.count = count
        self._floats = _floats(network) if count > 1 else []
        self._counters = _others(network) if count > 1 else []

    @contextlib.contextmanager
    def part(self, number: int) -> Iterator[None]:
        """Context of one part's forward and backward pass, ``number`` from 0 to ``count`` - 1 in turn."""
        if number == 0:
            self._before = [[buffer.clone() for buffer in each] for each in (self._floats, self._counters)]
        else:
            _copy(self._floats, self._before[0])
            _copy(self._counters, self._before[1])
        yield
        if number == 0:
            self._mean = [buffer.clone() for buffer in self._floats]
        elif self._floats:
            torch._foreach_lerp_(self._mean, self._floats, 1 / (number + 1))
        if number == self.count - 1 > 0:
            _copy(self._floats, self._mean)


@contextlib.contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Context after which the network's buffers are as they were before."""
    kept = [buffer.clone() for buffer in network.buffers()]
    yield
    with torch.no_grad():
        for buffer, value in zip(network.buffers(), kept, strict=True):
            buffer.copy_(value)


@torch.no_grad()
def average(network: nn.Module, place: Place) -> None:
    """Give every rank the mean over ranks of the network's float buffers, and rank 0's other ones (counters)."""
    if not place.distributed:
        return
    buffers = _floats(network)
    if buffers:
        own = _flat(buffers, torch.float64)
        first = place.first(own.clone())
        apart = _apart(own, first)
        place.sum(apart)
        _fill(buffers, first + apart / place.world)
    if others := _others(network):
        _fill(others, place.first(_flat(others, torch.int64)))


def gather(networks: Sequence[nn.Module], place: Place) -> torch.Tensor | None:
    """Each rank's float buffers, float64 ``(ranks, numbers)``, for a checkpoint; None in a world of one and where
    there are none. All ranks must call."""
    buffers = [buffer for network in networks for buffer in _floats(network)]
    return place.gather(_flat(buffers, torch.float64)) if buffers and place.distributed else None


@torch.no_grad()
def restore(networks: Sequence[nn.Module], place: Place, rows: torch.Tensor | None) -> None:
    """Give a rank what :func:`gather` took from it; the mean over ranks where their number has changed since."""
    if rows is None:
        return
    own = rows[place.rank] if len(rows) == place.world else rows[0] + _apart(rows, rows[0]).mean(0)
    _fill([buffer for network in networks for buffer in _floats(network)], own)


def _floats(network: nn.Module) -> list[torch.Tensor]:
    return [buffer for buffer in network.buffers() if buffer.is_floating_point()]


def _others(network: nn.Module) -> list[torch.Tensor]:
    return [buffer for buffer in network.buffers() if not buffer.is_floating_point()]


@torch.no_grad()
def _copy(to: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    if to:  # at once: a launch for each would cost a GPU more than all the rest
        torch._foreach_copy_(to, values)


def _apart(values: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """What ranks differ from rank 0 by; means of it leave what is equal on all ranks as it is, to the last bit."""
    return (values - first).masked_fill_(values == first, 0)


def _flat(buffers: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    return torch.cat([buffer.flatten().to(dtype) for buffer in buffers])


def _fill(buffers: Sequence[torch.Tensor], values: torch.Tensor) -> None:
    for buffer, value in zip(buffers, values.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(value.view(buffer.shape))

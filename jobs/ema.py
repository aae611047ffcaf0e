"""Exponential moving average of a network's weights and buffers."""

from __future__ import annotations

import copy

import torch
from torch import nn

from jobs.spec import EMA


class Average:
    """``average = d average + (1 - d) weights`` after every update; float buffers (BatchNorm) too, integers are copied.

    Args:
        spec: decay and whether it is warmed up.
        network: what is averaged; the average starts as a copy of it.
    """

    def __init__(self, spec: EMA, network: nn.Module) -> None:
        self.spec = spec
        self.network = copy.deepcopy(network).requires_grad_(False)
        mine, theirs = self.network.state_dict(), network.state_dict()
        moving = [name for name, value in theirs.items() if value.is_floating_point()]
        self._average, self._source = [mine[name] for name in moving], [theirs[name] for name in moving]
        counters = [name for name, value in theirs.items() if not value.is_floating_point()]
        self._copies, self._counters = [mine[name] for name in counters], [theirs[name] for name in counters]

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move towards the network's state after update number ``updates``, counted from 1."""
        decay = min(self.spec.decay, (1 + updates) / (10 + updates)) if self.spec.warmup else self.spec.decay
        torch._foreach_lerp_(self._average, self._source, 1.0 - decay)
        if self._copies:  # at once: a launch for each BatchNorm's counter would cost a GPU more than all the rest
            torch._foreach_copy_(self._copies, self._counters)

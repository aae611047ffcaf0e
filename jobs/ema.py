"""Exponential moving average of a network's weights and buffers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from jobs.base import Spec

if TYPE_CHECKING:
    import torch
    from torch import nn

_COMPENSATED = 1e-3
"""Shares of the weights below which float32 would round a good part of an update of the average away."""


class EMA(Spec):
    """Exponential moving average of weights and BatchNorm buffers (Polyak & Juditsky, 1992); it is what is evaluated
    and kept."""

    decay: float = Field(0.999, gt=0, lt=1)
    """Share of the average that stays each time the weights are taken in."""
    every: PositiveInt = 1
    """Updates between the times that the weights are taken in."""
    warmup: bool = True
    """Start with a short memory: decay is min(decay, (1 + n) / (10 + n)) at the n-th time."""
    copy_epochs: NonNegativeInt = 0
    """First epochs in which the average is a copy of the weights instead, and so is the first one taken in after them:
    torchvision's, which resets it during the learning rate's warmup."""


class Average:
    """``average = d average + (1 - d) weights``; float buffers (BatchNorm) too, integers are copied; tied weights once.

    Close to 1, ``1 - d`` times the difference is less than half of the average's last bit, and float32 would keep
    the average where it is. So what each update loses to rounding is kept and added to the next (Kahan 1965).

    Args:
        spec: decay, how often, and how it starts.
        network: what is averaged; the average starts as a copy of it.
        per_epoch: updates an epoch.
    """

    def __init__(self, spec: EMA, network: nn.Module, per_epoch: int = 1) -> None:
        import torch

        self.spec, self.copy_updates = spec, spec.copy_epochs * per_epoch
        self.network = copy.deepcopy(network).requires_grad_(False)
        pairs = [*zip(_tensors(self.network), _tensors(network), strict=True)]
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        self._average, self._source = [mine for mine, _ in moving], [theirs for _, theirs in moving]
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._copies, self._counters = [mine for mine, _ in counters], [theirs for _, theirs in counters]
        small = 1 - spec.decay < _COMPENSATED
        self._rest = [torch.zeros_like(mine) for mine in self._average] if small else []

    def begun(self) -> bool:
        """Whether it is what is scored and kept: from the first update on."""
        return True

    def update(self, updates: int) -> None:
        """Move towards the network's state after update number ``updates``, counted from 1."""
        import torch

        if updates % self.spec.every:
            return
        count = updates // self.spec.every
        decay = min(self.spec.decay, (1 + count) / (10 + count)) if self.spec.warmup else self.spec.decay
        if self.copy_updates and updates - self.spec.every <= self.copy_updates:
            decay = 0.0
        if self._rest and decay:
            self._compensated(1.0 - decay)
        else:
            torch._foreach_lerp_(self._average, self._source, 1.0 - decay)
        if self._copies:  # at once: a launch for each BatchNorm's counter would cost a GPU more than all the rest
            torch._foreach_copy_(self._copies, self._counters)

    def _compensated(self, share: float) -> None:
        import torch

        change = torch._foreach_sub(self._source, self._average)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(change, self._rest)
        before = torch._foreach_add(self._average, 0)
        torch._foreach_add_(self._average, change)
        moved = torch._foreach_sub(self._average, before)
        torch._foreach_copy_(self._rest, torch._foreach_sub(change, moved))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"network": self.network.state_dict(), "rest": self._rest}

    def load(self, state: dict[str, Any]) -> None:
        """Become what :meth:`state` gave."""
        from jobs.models.stored import restore

        restore(self.network, state["network"])
        for rest, value in zip(self._rest, state["rest"], strict=True):
            rest.copy_(value)


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers, each once."""
    return [*(parameter.data for parameter in network.parameters()), *network.buffers()]

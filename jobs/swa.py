"""Stochastic weight averaging (Izmailov et al., arXiv 1803.05407): the mean of the weights at the ends of the last
epochs, ``average = (n average + weights) / (n + 1)``, is what is scored and kept.

The paper trains those epochs at a constant, rather high rate (``lr``); under a schedule that has ended, weights hardly
differ. The average was never trained, so BatchNorm's statistics are computed for it: before it is scored, one pass over
the training split as the epoch saw it, each batch counting alike (``torch.optim.swa_utils.update_bn``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt

from jobs.base import Spec

if TYPE_CHECKING:
    import torch
    from torch import nn


class SWA(Spec):
    """The mean of the weights at the ends of the last epochs, in place of the weights."""

    epochs: PositiveInt
    """Last epochs whose weights are averaged."""
    lr: float | None = Field(None, gt=0, le=1e30)
    """Learning rate of these epochs; null follows the schedule."""


class StochasticAverage:
    """The network of means; see :class:`jobs.ema.Average`, which it stands in for.

    Args:
        spec: how many epochs.
        network: what is averaged.
        epochs: of the run.
        per_epoch: updates an epoch.
    """

    def __init__(self, spec: SWA, network: nn.Module, epochs: int, per_epoch: int) -> None:
        self.first, self.per_epoch = (epochs - spec.epochs) * per_epoch, per_epoch
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._pairs = [*zip(self.network.parameters(), network.parameters(), strict=True)]
        buffers = zip(self.network.buffers(), network.buffers(), strict=True)
        self._counters = [pair for pair in buffers if not pair[0].is_floating_point()]
        self.taken, self._stale = 0, False

    def begun(self) -> bool:
        """Whether there is anything in it."""
        return self.taken > 0

    def update(self, updates: int) -> None:
        """Take the weights in after update number ``updates``, where an epoch ends."""
        import torch

        if updates <= self.first or updates % self.per_epoch:
            return
        self.taken, self._stale = (updates - self.first) // self.per_epoch, True
        means, weights = [mean.data for mean, _ in self._pairs], [weight.data for _, weight in self._pairs]
        torch._foreach_lerp_(means, weights, 1 / self.taken)

    def renew(self, batches: Iterable[torch.Tensor], autocast: Callable[[], torch.autocast]) -> None:
        """Compute BatchNorm's statistics, where they are of other weights, on inputs ``(n, C, H, W)``."""
        import torch

        norms = [
            module for module in self.network.modules() if isinstance(module, torch.nn.modules.batchnorm._NormBase)
        ]
        if not (self._stale and any(norm.track_running_stats for norm in norms)):
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
        self.network.train()
        with torch.no_grad():
            for x in batches:
                with autocast():
                    self.network(x)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for mine, theirs in self._counters:  # of updates, whatever the parts
            mine.copy_(theirs)
        self._stale = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"network": self.network.state_dict(), "taken": self.taken}

    def load(self, state: dict[str, Any]) -> None:
        """Become what :meth:`state` gave."""
        from jobs.models.stored import restore

        restore(self.network, state["network"])
        self.taken, self._stale = int(state["taken"]), True

"""What a model spec is: it builds an ``nn.Module`` for a number of classes and channels."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from jobs.base import Spec

if TYPE_CHECKING:
    from torch import nn


class Model(Spec):
    """A classifier: images ``(N, channels, size, size)`` to logits ``(N, classes)``."""

    zero_gamma: bool = False
    """Start the last normalisation of every residual branch with gamma 0, so that each block begins as its shortcut;
    for networks of residual blocks only."""

    @abstractmethod
    def build(self, classes: int, channels: int) -> nn.Module:
        """A freshly initialised network; the caller has seeded the global generator.

        Raises:
            ValueError: no such network, or it cannot take these classes or channels.
        """

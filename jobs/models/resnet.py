"""placeholder: the models helper fills this in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jobs.models.model import Model

if TYPE_CHECKING:
    from torch import nn


class ResNet(Model):
    """ResNet."""

    kind: Literal["resnet"] = "resnet"

    def build(self, classes: int, channels: int) -> nn.Module:
        """A freshly initialised network."""
        raise ValueError("not built yet")

"""What a network starts from: fresh weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        model: the network's fields, where weights decide it.
        pretrained: ``model.pretrained``; None starts afresh.
        size: images' height and width in pixels that the weights were trained with.
        why: the reason.
    """

    model: dict[str, Any] = field(default_factory=dict)
    pretrained: dict[str, Any] | None = None
    size: int | None = None
    why: str = ""

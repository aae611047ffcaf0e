"""What the optimizers of torch and timm by name share: keyword arguments, and errors that say which is wrong.

Under fp16 each of their updates waits for the device to say whether the gradients overflowed; sgd, adam and adamw
do not.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import JsonValue, field_validator

from jobs.optimizers.optimizer import Optimizer
from jobs.words import suggestion

if TYPE_CHECKING:
    import torch

FIELD = "it is a field of the optimizer (lr or lr_per_256, weight_decay), so set it there"
SPEED = "it changes how fast the update is, not what it is; where that matters, take kind sgd, adam or adamw"
SENSE = "an update here lowers a loss that it is given, so leave it out"
RESERVED = {
    **dict.fromkeys(("lr", "weight_decay"), FIELD),
    "params": "it follows from the model, so leave it out",
    **dict.fromkeys(("foreach", "fused", "capturable", "triton"), SPEED),
    **dict.fromkeys(("maximize", "differentiable"), SENSE),
}
CLOSURE = "it evaluates the loss several times an update, and the loop does so once; adam or timm's lamb may serve"


class Library(Optimizer):
    """An optimizer of a library, by name."""

    refused: ClassVar[dict[str, str]]
    """Names that cannot be used, and why."""

    name: str
    """What the library calls the optimizer."""
    kwargs: dict[str, JsonValue] = {}  # noqa: RUF012 (pydantic copies defaults)
    """Further keyword arguments of the optimizer (betas, momentum, ...)."""

    @field_validator("name")
    @classmethod
    def _usable(cls, name: str) -> str:
        if name in cls.refused:
            raise ValueError(f"{name} cannot be used here: {cls.refused[name]}")
        return name

    @field_validator("kwargs")
    @classmethod
    def _nothing_reserved(cls, kwargs: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in kwargs:
            if name in RESERVED:
                raise ValueError(f"{name} {kwargs[name]!r} cannot be given here: {RESERVED[name]}")
        return kwargs

    def _unknown(self, names: Iterable[str]) -> ValueError:
        usable = (name for name in names if name not in self.refused)
        cure = suggestion(self.name, usable, "see the library's list of optimizers")
        return ValueError(f"{self.kind} has no optimizer {self.name!r}; {cure}")  # type: ignore[attr-defined]

    def _make(
        self, create: Callable[..., torch.optim.Optimizer], network: torch.nn.Module, lr: float, given: dict[str, Any]
    ) -> torch.optim.Optimizer:
        who = f"{self.kind} {self.name}"  # type: ignore[attr-defined]
        parameters = self.groups(network)
        if "weight_decay" not in inspect.signature(create).parameters:
            if self.weight_decay:
                raise ValueError(
                    f"{who} has no weight decay; set optimizer.weight_decay to 0, got {self.weight_decay:g}"
                )
            parameters = [
                {name: value for name, value in group.items() if name != "weight_decay"} for group in parameters
            ]
        try:
            made = create(parameters, lr=lr, **{**given, **self.kwargs})
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            shown = ", ".join(f"{name}={value!r}" for name, value in self.kwargs.items()) or "none"
            raise ValueError(f"{who} refuses optimizer.kwargs ({shown}) or this network: {error}") from error
        for name, value in made.param_groups[0].items():
            try:
                json.dumps(None if name == "params" else value)
            except TypeError as error:
                kept = f"{name} ({value!r}) among its settings, which a checkpoint without pickle cannot hold"
                raise ValueError(f"{who} cannot be used here: it keeps {kept}") from error
        return made

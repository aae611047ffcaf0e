"""What the models of torchvision and timm share: a name, keyword arguments, and errors that say which is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import JsonValue, field_validator

from jobs.models.model import Model
from jobs.words import suggestion

if TYPE_CHECKING:
    from torch import nn


class Library(Model):
    """A network of a library, by name, freshly initialised."""

    reserved: ClassVar[dict[str, str]]
    """Keyword arguments that a spec may not give, and why."""

    name: str
    """What the library calls the network."""
    kwargs: dict[str, JsonValue] = {}  # noqa: RUF012 (pydantic copies defaults)
    """Further keyword arguments of the network (image_size; stochastic depth is drop_path_rate in timm and
    stochastic_depth_prob in torchvision; ...)."""

    @field_validator("kwargs")
    @classmethod
    def _nothing_reserved(cls, kwargs: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in kwargs:
            if name in cls.reserved:
                raise ValueError(f"{name} {kwargs[name]!r} cannot be given here: {cls.reserved[name]}")
        return kwargs

    def _unknown(self, names: Iterable[str]) -> ValueError:
        cure = suggestion(self.name, names, "see the library's list of models")
        return ValueError(f"{self.kind} has no model {self.name!r}; {cure}")  # type: ignore[attr-defined]

    def _make(self, create: Callable[..., nn.Module], **given: object) -> nn.Module:
        from jobs.models.gamma import set_last_gammas

        try:
            network = create(self.name, **given, **self.kwargs)
        except (TypeError, AssertionError) as error:
            shown = ", ".join(f"{name}={value!r}" for name, value in self.kwargs.items()) or "none"
            message = f"{self.kind} {self.name} refuses model.kwargs ({shown}): {error}"  # type: ignore[attr-defined]
            raise ValueError(message) from error
        if not set_last_gammas(network, 0.0 if self.zero_gamma else 1.0) and self.zero_gamma:
            raise ValueError(
                f"{self.kind} {self.name} has no blocks that are known to end a residual branch in a "  # type: ignore[attr-defined]
                "normalisation, and elsewhere a gamma of 0 would zero the signal itself; leave zero_gamma out"
            )
        return network


WEIGHTS = "model.pretrained says which weights the network starts from, so leave it out"
GAMMA = "model.zero_gamma says whether the last gamma of a residual branch starts at 0, so leave it out"
DATA = "it follows from the data, so leave it out"
ONE_OUTPUT = "a classifier must put out one tensor of logits, so leave it out"

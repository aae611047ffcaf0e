"""A small spec with every sort of field, so that golden texts do not change with the tricks; and a way to read one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from jobs.base import Spec
from jobs.specfile import SpecError, read


def load(text: str, *overrides: str, cls: type[Any]) -> Any:
    """The spec of a text that is written to x.yaml in the current directory."""
    Path("x.yaml").write_text(text, encoding="utf-8", newline="")
    return read("x.yaml", cls, overrides)


def refusal(text: str, *overrides: str, cls: type[Any]) -> SpecError:
    """The error that such a text meets."""
    with pytest.raises(SpecError) as caught:
        load(text, *overrides, cls=cls)
    return caught.value


class Zoom(Spec):
    kind: Literal["zoom"] = "zoom"
    factor: float = Field(1.5, gt=1, le=4)


class Blur(Spec):
    kind: Literal["blur"] = "blur"
    sigma: float = Field(1.0, gt=0)


class SGD(Spec):
    kind: Literal["sgd"] = "sgd"
    lr: float = Field(gt=0)
    """Learning rate; None of it is scaled."""
    momentum: float = Field(0.9, ge=0, lt=1)


class Adam(Spec):
    kind: Literal["adam"] = "adam"
    lr: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.999)


class Average(Spec):
    decay: float = Field(0.99, gt=0, lt=1)
    every_steps: int = Field(gt=0)
    """Updates between two averagings."""


class Small(Spec):
    name: str = Field("x", pattern=r"^[a-z-]+$")
    optimizer: Annotated[SGD | Adam, Field(discriminator="kind")]
    """How the weights move."""
    tricks: tuple[Annotated[Zoom | Blur, Field(discriminator="kind")], ...] = ()
    precision: Literal["fp32", "bf16"] = "fp32"
    fast: Literal["auto"] | bool = "auto"
    mean: tuple[float, ...] | None = Field(None, min_length=1, max_length=3)
    average: Average | None = None
    epochs: int = Field(10, gt=0)
    labels: dict[str, float] = {}  # noqa: RUF012

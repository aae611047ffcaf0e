"""Distributions that the value of a name is drawn from."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from annotated_types import Len
from pydantic import Field, JsonValue, field_validator, model_validator

from jobs.base import Spec
from jobs.specfile.schema import shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Scalar = str | int | float | bool | None


class Distribution(Spec):
    """What the value of one name is drawn from."""

    kind: str
    """Its name in a spec."""
    when: dict[str, Scalar] = {}  # noqa: RUF012 (pydantic copies defaults)
    """Conditions that must all hold for the name to be drawn: dotted name of the job -> ``present``, ``absent`` or the
    value that it must have, in the base job with the values drawn so far."""

    @abstractmethod
    def at(self, u: float) -> Any:
        """The inverse CDF at ``u`` in [0, 1)."""

    @abstractmethod
    def ends(self) -> tuple[Any, ...]:
        """The values that are validated before anything starts: both ends, or all of a choice."""

    @abstractmethod
    def contains(self, value: Any) -> bool:
        """Whether ``value`` can be drawn."""

    @abstractmethod
    def optuna(self) -> BaseDistribution:
        """The same for Optuna; its values are those of :meth:`encode`."""

    def grid(self, points: int) -> list[Any]:
        """The values of a grid; ``points`` of a range."""
        return list(self.ends())

    def encode(self, value: Any) -> Any:
        """A value as Optuna knows it."""
        return value

    def decode(self, value: Any) -> Any:
        """The value that Optuna's stands for."""
        return value


def _line(low: float, high: float, share: float) -> float:
    return min(high, max(low, low * (1.0 - share) + high * share))


def _log_line(low: float, high: float, share: float) -> float:
    return min(high, max(low, math.exp(_line(math.log(low), math.log(high), share))))


class _Range(Distribution):
    low: float
    high: float

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        if self.low >= self.high:
            cure = "; for one value take kind fixed" if self.low == self.high else ""
            raise ValueError(f"low {self.low:g} must be less than high {self.high:g}{cure}")
        return self

    def ends(self) -> tuple[Any, ...]:
        """Low and high."""
        return (self.low, self.high)

    def contains(self, value: Any) -> bool:
        """Whether it is a number of the range."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def grid(self, points: int) -> list[Any]:
        """``points`` values at equal distances, both ends among them."""
        inner = (self.between(place / (points - 1)) for place in range(1, points - 1))
        return list(dict.fromkeys([self.low, *inner, self.high]))

    @abstractmethod
    def between(self, share: float) -> Any:
        """The value at a share of the way from low (0) to high (1)."""

    def at(self, u: float) -> Any:
        """The value at a share ``u`` of the way."""
        return self.between(u)


class Uniform(_Range):
    """Any number of a range, all equally likely."""

    kind: Literal["uniform"] = "uniform"
    low: float
    """Smallest value."""
    high: float
    """Largest value."""

    def between(self, share: float) -> float:
        """On a straight line."""
        return _line(self.low, self.high, share)

    def optuna(self) -> BaseDistribution:
        """``FloatDistribution``."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high)


class LogUniform(_Range):
    """Any number of a range, with equally likely logarithms."""

    kind: Literal["loguniform"] = "loguniform"
    low: float = Field(gt=0)
    """Smallest value; positive."""
    high: float
    """Largest value."""

    def between(self, share: float) -> float:
        """On a straight line of logarithms."""
        return _log_line(self.low, self.high, share)

    def optuna(self) -> BaseDistribution:
        """``FloatDistribution`` with ``log``."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=True)


class Integers(_Range):
    """Any integer of a range."""

    kind: Literal["integers"] = "integers"
    low: int
    """Smallest value."""
    high: int
    """Largest value, included."""
    log: bool = False
    """Draw with equally likely logarithms; low must be positive."""

    @model_validator(mode="after")
    def _log_of_positive(self) -> Self:
        if self.log and self.low < 1:
            raise ValueError(f"log: true needs a low of at least 1, got {self.low}")
        return self

    def contains(self, value: Any) -> bool:
        """Whether it is an integer of the range."""
        return isinstance(value, int) and super().contains(value)

    def grid(self, points: int) -> list[Any]:
        """``points`` of them, or all where there are no more."""
        return list(range(self.low, self.high + 1)) if self.high - self.low < points else super().grid(points)

    def between(self, share: float) -> int:
        """The nearest integer."""
        return round((_log_line if self.log else _line)(self.low, self.high, share))

    def at(self, u: float) -> int:
        """Each integer has the share of [0, 1) that its interval of length 1 around it has of all of them."""
        value = (_log_line if self.log else _line)(self.low - 0.5, self.high + 0.5, u)
        return min(self.high, math.floor(value + 0.5))

    def optuna(self) -> BaseDistribution:
        """``IntDistribution``."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log)


class Choice(Distribution):
    """One of several values, all equally likely; they may be numbers, text, null, lists or mappings."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[JsonValue, ...], Len(1)]
    """The values to choose from."""

    @field_validator("values")
    @classmethod
    def _each_once(cls, values: tuple[JsonValue, ...]) -> tuple[JsonValue, ...]:
        for place, value in enumerate(values):
            if any(same(value, other) for other in values[:place]):
                raise ValueError(f"each value may appear once, but {shown(value)} appears more often")
        return values

    def at(self, u: float) -> Any:
        """The value whose share of [0, 1) has ``u``."""
        return self.values[int(u * len(self.values))]

    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values

    def contains(self, value: Any) -> bool:
        """Whether it is one of them."""
        return any(same(value, other) for other in self.values)

    def optuna(self) -> BaseDistribution:
        """``IntDistribution`` over the indices of numbers that ascend or descend, since neighbours are alike; else
        ``CategoricalDistribution``."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        if self._ordered:
            return IntDistribution(0, len(self.values) - 1)
        return CategoricalDistribution([self.encode(value) for value in self.values])

    def encode(self, value: Any) -> Any:
        """The value itself, or its index where values are in order, are lists or mappings, or are equal to Python
        (1 and true)."""
        return value if self._plain else next(i for i, other in enumerate(self.values) if same(value, other))

    def decode(self, value: Any) -> Any:
        """What :meth:`encode` was given."""
        return value if self._plain else self.values[value]

    @property
    def _ordered(self) -> bool:
        numbers = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        return len(numbers) == len(self.values) > 2 and sorted(numbers) in (numbers, numbers[::-1])

    @property
    def _plain(self) -> bool:
        scalars = [value for value in self.values if isinstance(value, Scalar)]
        return len(scalars) == len(set(scalars)) == len(self.values) and not self._ordered


class Fixed(Distribution):
    """One value; with ``when``, one for a branch of the space."""

    kind: Literal["fixed"] = "fixed"
    value: JsonValue
    """The value."""

    def at(self, u: float) -> Any:
        """The value."""
        return self.value

    def ends(self) -> tuple[Any, ...]:
        """The value."""
        return (self.value,)

    def contains(self, value: Any) -> bool:
        """Whether it is the value."""
        return same(value, self.value)

    def optuna(self) -> BaseDistribution:
        """A choice of one, the index of the value."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([0])

    def encode(self, value: Any) -> Any:
        """The index 0."""
        return 0

    def decode(self, value: Any) -> Any:
        """The value."""
        return self.value


DistributionSpec = Annotated[Uniform | LogUniform | Integers | Choice | Fixed, Field(discriminator="kind")]


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; unlike in Python, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)

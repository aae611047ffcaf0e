"""Spaces: distributions over dotted names of the job spec, some of which are drawn only where a condition holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from itertools import islice
from typing import Any

from jobs.base import assign
from jobs.spec import JobSpec
from tuning.spec.distributions import (
    Choice,
    Distribution,
    DistributionSpec,
    Fixed,
    Integers,
    LogUniform,
    Scalar,
    Uniform,
    same,
)

Space = Mapping[str, Distribution]


def look_up(data: Any, name: str) -> Any:
    """The value of a dotted name in the data of a job; None where there is none. Entries of lists go by kind."""
    for part in name.split("."):
        if isinstance(data, list):
            data = next((entry for entry in data if isinstance(entry, dict) and entry.get("kind") == part), None)
        else:
            data = data.get(part) if isinstance(data, dict) else None
    return data


def holds(when: Mapping[str, Scalar], data: Mapping[str, Any]) -> bool:
    """Whether all conditions hold for the data of a job."""
    for name, wanted in when.items():
        value = look_up(data, name)
        if wanted in ("present", "absent"):
            if (value is not None) != (wanted == "present"):
                return False
        elif not same(value, wanted):
            return False
    return True


def changed(base: Mapping[str, Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a job with names drawn; both are left alone, though a field may go into a mapping that was drawn."""
    return assign(base, deepcopy(dict(drawn)), JobSpec)


def draw(space: Space, base: Mapping[str, Any], pick: Callable[[str, Distribution], Any]) -> dict[str, Any]:
    """Parameters of a trial: every name whose condition holds, in the order of the space.

    Args:
        space: name -> distribution.
        base: data of the base job (``model_dump(mode="json")``).
        pick: the value for a name; called only for those that are drawn.
    """
    drawn: dict[str, Any] = {}
    for name, distribution in space.items():
        if not distribution.when or holds(distribution.when, changed(base, drawn)):
            drawn[name] = deepcopy(pick(name, distribution))
    return drawn


def active(space: Space, base: Mapping[str, Any], drawn: Mapping[str, Any]) -> list[str]:
    """The names whose condition holds for the base with ``drawn``, in order; a drawn name whose condition does not
    hold counts as not drawn."""
    names: list[str] = []
    for name, distribution in space.items():
        before = {other: drawn[other] for other in names if other in drawn}
        if not distribution.when or holds(distribution.when, changed(base, before)):
            names.append(name)
    return names


def combinations(space: Space, base: Mapping[str, Any], points: int) -> Iterator[dict[str, Any]]:
    """Every combination of the names whose conditions hold, so none comes twice for the sake of a closed branch."""
    names = list(space)

    def below(place: int, drawn: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if place == len(names):
            yield drawn
            return
        name, distribution = names[place], space[names[place]]
        if distribution.when and not holds(distribution.when, changed(base, drawn)):
            yield from below(place + 1, drawn)
            return
        for value in distribution.grid(points):
            yield from below(place + 1, {**drawn, name: value})

    return below(0, {})


def different(space: Space, base: Mapping[str, Any], most: int) -> int | None:
    """How many different points a space has; None where there are more than ``most``."""
    for axis in space.values():
        if isinstance(axis, Uniform | LogUniform) and axis.low < axis.high:
            return None
        if isinstance(axis, Integers) and axis.high - axis.low >= most:
            return None
    count = sum(1 for _ in islice(combinations(space, base, most + 1), most + 1))
    return count if count <= most else None


def longest(space: Space, base: JobSpec) -> int:
    """Epochs of the longest trial, where ``epochs`` may be varied too."""
    axis = space.get("epochs")
    return base.epochs if axis is None else int(max(*axis.ends(), base.epochs if axis.when else 1))


def free(space: Space) -> list[str]:
    """The names that there is something to draw for: all but the fixed ones."""
    return [name for name, distribution in space.items() if not isinstance(distribution, Fixed)]


__all__ = [
    "Choice",
    "Distribution",
    "DistributionSpec",
    "Fixed",
    "Integers",
    "LogUniform",
    "Space",
    "Uniform",
    "active",
    "changed",
    "combinations",
    "different",
    "draw",
    "free",
    "holds",
    "longest",
    "look_up",
    "same",
]

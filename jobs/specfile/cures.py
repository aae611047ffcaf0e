"""Cures of what is wrong with a spec: the nearest name, what a value meant, and what to write after ``-s``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from jobs.base import Spec
from jobs.paths import NamesOf
from jobs.specfile.schema import Node, Shape, shown
from jobs.words import any_of, nearest

_OF_ALL_MIXING = ("share", "off_epochs")
_OF_AN_AXIS = ("kind", "low", "high", "log", "values", "value", "when")


def job_of(cls: type[Spec]) -> Shape | None:
    """The spec whose fields are keys of this one's ``set``; None where it has no such field."""
    marks = cls.model_fields["set"].metadata if "set" in cls.model_fields else ()
    return next((Shape.of(mark.spec) for mark in marks if isinstance(mark, NamesOf)), None)


def example(job: Shape | None) -> str:
    """An override that works for most files."""
    return f"for example -s {'optimizer.lr=0.2' if job is None else 'budget.trials=20'}"


def unknown(shape: Shape, job: Shape | None, name: str) -> str:
    """What is most likely meant by an override of a name that is not there; empty for no idea."""
    if job is None:
        return guess_name(shape, name)
    inner = re.sub(r"^(job|set)\.", "", name)
    if inner in {known.dotted for known in job.names}:
        return f"a field of its job is set as -s set.{inner}=..."
    return guess_name(shape, name) or _within("set", guess_name(job, inner))


def unknown_axis(job: Shape | None, name: str, keys: Any) -> tuple[str, str]:
    """What is wrong with an override of a part of an axis, and the cure; empty where its name is one of the job's."""
    within, _, part = name.rpartition(".")
    axis = within.removeprefix("space.")
    if job is None or not name.startswith("space.") or part not in _OF_AN_AXIS or axis in (keys or ()):
        return "", ""
    names = {known.dotted for known in job.names}
    if f"{axis}.{part}" in names:
        return "", ""
    if axis in names:
        return f"space has no {axis}", f"write all of it: -s 'space.{axis}={{kind: uniform, low: ..., high: ...}}'"
    return f"there is no {axis}", _within("space", guess_name(job, axis), f".{part}")


def of_entry(shape: Shape, name: str, value: Any) -> str:
    """The field of a list's entry that a number was meant for."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    slot, _, kind = name.rpartition(".")
    for option in shape.options(shape.root["properties"].get(slot, {})):
        entry = shape.choices(option.get("items") or {}).get(kind, {})
        for field, node in entry.get("properties", {}).items():
            if field not in _OF_ALL_MIXING and re.match(r"a number|an integer", shape.describe(node)):
                return f"for example -s {name}.{field}={shown(value)}"
    return ""


def as_override(cure: str, name: str) -> str:
    """A cure that says what to write into a file, as an override of that name."""
    if found := re.fullmatch(r"write `- (kind: .*)`", cure):
        return f"write -s '{name}=[{{{found[1]}}}]'"
    if found := re.fullmatch(r"write `[\w.]+: (\{.*\})`", cure):
        return f"write -s '{name}={found[1]}'"
    return cure


def _within(prefix: str, guess: str, suffix: str = "") -> str:
    """A guess about names of the job, as names of the search."""
    names = re.findall(r"[\w.]*\w", guess.removeprefix("did you mean "))
    names = [name for name in names if name != "or"]
    return f"did you mean {any_of([f'{prefix}.{name}{suffix}' for name in names])}?" if names else ""


def of_value(shape: Shape, node: Node, value: Any, key: str | int) -> str:
    """What the user most likely meant by a value that is not allowed; empty for no idea."""
    options = shape.options(node)
    types = {option.get("type") for option in options}
    choices = [str(choice) for option in options for choice in option.get("enum", [option.get("const", "")])]
    listed = [kind for option in options for kind in shape.choices(option.get("items") or {})]
    kinds = listed + [kind for option in options for kind in shape.choices(option)]
    entry = bool(listed) or isinstance(key, int)
    if isinstance(value, str):
        if types & {"number", "integer"} and re.fullmatch(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", value, re.IGNORECASE):
            return f"take the quotes away: {value}"
        if "boolean" in types and (word := value.lower()) in ("yes", "on", "true", "no", "off", "false"):
            return f"write {'true' if word in ('yes', 'on', 'true') else 'false'}"
        plain = re.sub(r"[^\w.-]+", "-", value).strip("-")
        if any("pattern" in option and re.search(option["pattern"], plain) for option in options):
            return f"did you mean {plain}?"
        if near := near_to(value, choices):
            return f"did you mean {near}?"
        if kind := near_to(value, kinds):
            inner = next(known[kind] for known in map(shape.choices, _with_items(options)) if kind in known)
            written = ", ".join([f"kind: {kind}", *(f"{name}: ..." for name in _needed(inner))])
            return f"write `- {written}`" if entry else f"write `{key}: {{{written}}}`"
        if "fixed" in kinds:
            return f"write `{key}: {{kind: fixed, value: {value}}}`"
    elif listed and isinstance(value, dict):
        if value.get("kind") in listed:
            return "it is a list: put `- ` in front of `kind`"
        return next((f"it is a list: write `- kind: {name}`" for name in value if name in listed), "")
    elif "fixed" in kinds and isinstance(value, list | int | float):  # an axis of a space
        several = isinstance(value, list)
        return f"write `{key}: {{kind: {'choice, values' if several else 'fixed, value'}: {shown(value)}}}`"
    elif value is None and "default" in node:
        default = node["default"]
        return f"leave {key} out for its default" + ("s" if isinstance(default, dict) else f", {shown(default)}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if "array" in types:
            return f"put it in brackets: [{shown(value)}]"
        if "string" in types and not choices[0]:
            return "put it in quotes"
        if "integer" in types and isinstance(value, float) and value.is_integer():
            return f"write {value:.0f}"
    return ""


def guess_name(shape: Shape, name: str) -> str:
    """What an unknown dotted name most likely means; empty if nothing is near."""
    above, _, key = name.rpartition(".")
    names = [other.dotted for other in shape.names]
    siblings = [other.parts[-1] for other in shape.names if ".".join(other.parts[:-1]) == above]
    found = names_ending(shape, key) or names_ending(shape, "".join(word[:1] for word in key.split("_")))
    if not found:
        near = near_to(key, siblings)
        found = [f"{above}.{near}".removeprefix(".") if near else near_to(name, names, 0.7)]
    return f"did you mean {any_of(found[:4])}?" if found[0] else ""


def names_ending(shape: Shape, last: str) -> list[str]:
    """The dotted names that end with that part."""
    return list(dict.fromkeys(name.dotted for name in shape.names if name.parts[-1] == last != "kind"))


def near_to(word: str, words: Sequence[str], cutoff: float = 0.6) -> str:
    """The nearest of these words; empty if none is near."""
    return next(iter(nearest(word, words, 1, cutoff)), "")


def _with_items(options: Iterable[Node]) -> list[Node]:
    """Options, and the entries of those that are lists."""
    return [node for option in options for node in (option, option.get("items") or {})]


def _needed(node: Node) -> list[str]:
    """Fields without a default; an optimizer's learning rate is one, under either of its names."""
    required = [name for name in node.get("required", ()) if name != "kind"]
    return required or (["lr"] if "lr_per_256" in node.get("properties", {}) else [])

"""What is wrong with a spec file, in words that say how to fix it: pydantic's errors, reworded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails

from jobs.names import printable_lines
from jobs.specfile.cures import names_ending, near_to, of_value
from jobs.specfile.schema import Node, Shape, shown
from jobs.specfile.yaml import Mark, kind_of
from jobs.urls import redact
from jobs.words import any_of

_BY_SCHEMA = re.compile(
    r"(literal|enum)_error|.*_(type|parsing|parsing_size)|int_from_float|(greater|less)_than(_equal)?|multiple_of"
    r"|finite_number|too_(short|long)|string_(too_(short|long)|pattern_mismatch)"
)
"""Types of pydantic's errors for which the JSON Schema says what is allowed."""
MOST_PROBLEMS, _LONGEST = 20, 600
"""Problems that a message shows, and characters of each of its parts."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    what: str
    """What it is, with the dotted name, the value got and what is allowed."""
    name: str = ""
    """Dotted name of the field; empty where the file itself is meant."""
    source: str = ""
    """The file, or ``-s name=value``."""
    mark: Mark | None = None
    """Where in the file."""
    text: str = ""
    """The offending line."""
    cures: tuple[str, ...] = ()
    """What to do about it."""

    def __str__(self) -> str:
        """``file:line:column: what``, the line with a caret below it, and the cures."""
        source = _fit(self.source)
        place = f"{source}:{self.mark.line}:{self.mark.column}" if self.mark else source
        rows = [f"{place}: {_fit(self.what)}"]
        if self.mark and self.text.strip():
            rows += _excerpt(redact(self.text), self.mark)
        for cure in self.cures:
            rows += wrap(_fit(cure), 110, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
        return "\n".join(rows)


class SpecError(ValueError):
    """A spec file that cannot be used: its ``problems``, and the number of others; ``str()`` is for people."""

    def __init__(self, problems: Iterable[Problem], more: int = 0) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.more = more
        super().__init__(self.problems, more)

    def __str__(self) -> str:
        """The first problems, a blank line between them."""
        count, shown = len(self.problems) + self.more, self.problems[:MOST_PROBLEMS]
        head = [f"{count:,} problems" + (f", the first {len(shown)}:" if count > len(shown) else "")]
        return "\n\n".join([*(head if count > 1 else []), *map(str, shown)])


def _fit(text: str) -> str:
    """A text without passwords, that any terminal can take, cut to a readable length."""
    text = redact(text)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return printable_lines(text)


def _excerpt(text: str, mark: Mark) -> list[str]:
    """The line, cut to 100 characters around the place, and carets below the place."""
    cut = max(0, mark.column - 60) if len(text) > 100 else 0
    text = "".join(char if char.isprintable() or char == "\t" else "?" for char in text)  # as wide as it was
    line = ("..." if cut else "") + text[cut : cut + 100] + ("..." if len(text) > cut + 100 else "")
    before = ("..." if cut else "") + text[cut : mark.column - 1]
    wide = {char: "  " for char in before if unicodedata.east_asian_width(char) in "WF"} | {"\t": "\t"}
    under = "".join(wide.get(char, " ") for char in before) + "^" * max(1, min(mark.width, 100 - mark.column + 1 + cut))
    margin = len(str(mark.line))
    return [f"  {mark.line} | {line}", f"  {'':{margin}} | {under}"]


@dataclass(frozen=True)
class Finding:
    """An error of pydantic's in our words, not yet placed in a file."""

    path: tuple[str | int, ...]
    at: str
    """What to point at: the ``key`` or ``value``, the ``parent`` of what is missing, or the field ``mentioned``."""
    what: str
    cures: tuple[str, ...] = ()
    by_schema: bool = False


class _Spot(NamedTuple):
    """Where an error is: its path through the data, what may stand and what stands there, the mapping around it."""

    path: tuple[str | int, ...]
    node: Node
    value: Any
    parent: Node


def dotted(data: Any, path: Sequence[str | int]) -> str:
    """The dotted name of a path through spec data: a list's entry is named by its kind, or else by its index."""
    name = ""
    for step in path:
        data = data[step] if isinstance(step, int) else data.get(step) if isinstance(data, dict) else None
        kind = kind_of(data) if isinstance(step, int) else step
        name += f".{kind}" if isinstance(kind, str) else f"[{step}]"
    return name.removeprefix(".")


def findings(shape: Shape, data: Any, errors: Iterable[ErrorDetails]) -> list[Finding]:
    """pydantic's errors about ``data`` in words; the branches of a union become one."""
    found: dict[tuple[Any, ...], Finding] = {}
    for error in errors:
        spot = _locate(shape, data, error["loc"])
        finding = _WORDS.get(error["type"], _wrong)(shape, data, spot, error)
        found.setdefault((spot.path, finding.by_schema or finding.what), finding)
    paths = [finding.path for finding in found.values()]
    deeper = {path[:length] for path in paths for length in range(len(path))}
    return [finding for finding in found.values() if not (finding.by_schema and finding.path in deeper)]


def _locate(shape: Shape, data: Any, loc: Sequence[str | int]) -> _Spot:
    """The place of pydantic's ``loc``, which has the kinds and branches of unions in it too."""
    path: list[str | int] = []
    node = parent = shape.root
    tagged = False
    for step in loc:
        node = shape.fitting(node, data)
        if (kinds := shape.choices(node)) and not tagged:
            node, tagged = kinds.get(str(step), node), True
            continue
        keys = node.get("properties", {})
        if (isinstance(data, dict) and (step in data or step in keys)) or (
            isinstance(data, list) and step in range(len(data))
        ):
            path.append(step)
            parent, node, tagged = node, shape.step(node, step), False
            data = data.get(step) if isinstance(data, dict) else data[int(step)]
    return _Spot(tuple(path), node, data, parent)


def _wrong(shape: Shape, data: Any, spot: _Spot, error: ErrorDetails) -> Finding:
    name, value = dotted(data, spot.path), spot.value
    if error["type"] in ("value_error", "assertion_error"):
        text = str(error.get("ctx", {}).get("error", error["msg"]))
        return Finding(spot.path, "mentioned", f"{name}: {text}" if name and not text.startswith(name) else text)
    name, allowed = name or "the spec", shape.describe(spot.node)
    got = f"the text {shown(value)}" if isinstance(value, str) and re.match(r"an? ", allowed) else shown(value)
    if not allowed or not _BY_SCHEMA.fullmatch(error["type"]):
        return Finding(spot.path, "value", f"{name}: {error['msg']}, got {got}")
    if error["type"] == "finite_number":
        allowed = allowed.replace("a number", "a finite number")
    cure = of_value(shape, spot.node, spot.value, spot.path[-1])
    return Finding(spot.path, "value", f"{name} must be {allowed}, got {got}", (cure,) if cure else (), by_schema=True)


def _unknown(shape: Shape, data: Any, spot: _Spot, error: ErrorDetails) -> Finding:
    above, key = dotted(data, spot.path[:-1]), str(spot.path[-1])
    keys = spot.parent.get("properties", {})
    kind = keys.get("kind", {}).get("const")
    owner = " ".join(filter(None, [above or "the top level", f"(kind {kind})" if kind else ""]))
    allowed = f"{owner} allows {', '.join(keys)}" if keys else f"{owner} allows no keys"
    homes = [home for home, kinds, _ in shape.kinds if key == "kind" and spot.value in kinds]
    guess = f"{spot.value} is a kind of {any_of(homes)}" if homes else guess_key(shape, above, kind, key, list(keys))
    return Finding(
        spot.path, "key", f"unknown key {dotted(data, spot.path)}", (guess, allowed) if guess else (allowed,)
    )


def guess_key(shape: Shape, above: str, kind: str | None, key: str, allowed: Sequence[str]) -> str:
    """What the unknown ``key`` of the mapping ``above`` most likely means; empty if nothing is near."""
    full = f"{above}.{key}".removeprefix(".")
    if (near := key.replace("-", "_").lower()) in allowed:
        return f"did you mean {near}?"
    if kind and (others := [name.kind for name in shape.names if name.dotted == full and name.kind]):
        return f"{key} belongs to kind {any_of(others)}, not to {kind}"
    if "." in key and any(name.dotted == full for name in shape.names):
        *outer, last = key.split(".")
        return f"dotted names are for -s; here nest it: `{': {'.join(outer)}: {{{last}: ...{'}' * len(outer)}`"
    for slot, kinds, listed in shape.kinds:
        if key in kinds:
            return f"did you mean `{'- ' if listed else ''}kind: {key}` under {slot}?"
    same, near = names_ending(shape, key), near_to(key, allowed)
    if not same and not near:
        same = names_ending(shape, near_to(key, [name.parts[-1] for name in shape.names], 0.75))
    if not same:
        return f"did you mean {near}?" if near else ""
    home, _, last = same[0].rpartition(".")
    where = "" if len(same) > 1 else f", that is {last} {'under ' + home if home else 'at the top level'}"
    return f"did you mean {any_of(same[:4])}{where}?"


def _missing(shape: Shape, data: Any, spot: _Spot, error: ErrorDetails) -> Finding:
    allowed, meaning = shape.describe(spot.node), spot.node.get("description", "")
    what = f"{dotted(data, spot.path)} is missing" + (f"; it must be {allowed}" if allowed else "")
    return Finding(spot.path, "parent", what, (f"{spot.path[-1]}: {meaning}",) if meaning else ())


def _bad_kind(shape: Shape, data: Any, spot: _Spot, error: ErrorDetails) -> Finding:
    kinds, kind = list(shape.choices(shape.fitting(spot.node, spot.value))), spot.value["kind"]
    if not isinstance(kind, str):
        what = f"{dotted(data, spot.path)}.kind must be {any_of(kinds)}, got {shown(kind)}"
        return Finding((*spot.path, "kind"), "value", what)
    slot = dotted(data, spot.path[:-1] if isinstance(spot.path[-1], int) else spot.path)
    homes = [home for home, known, _ in shape.kinds if kind in known]
    near = f"did you mean {near}?" if (near := near_to(kind, kinds)) else ""
    cure = f"{kind} is a kind of {any_of(homes)}" if homes else near
    what = f"{slot} has no kind {shown(kind)}; it has {', '.join(kinds)}"
    return Finding((*spot.path, "kind"), "value", what, (cure,) if cure else ())


def _no_kind(shape: Shape, data: Any, spot: _Spot, error: ErrorDetails) -> Finding:
    kinds = shape.choices(shape.fitting(spot.node, spot.value))
    fitting = [kind for kind, chosen in kinds.items() if set(spot.value) <= set(chosen["properties"])]
    cure = (f"its keys are those of kind: {fitting[0]}",) if len(fitting) == 1 and spot.value else ()
    what = f"{dotted(data, spot.path)}.kind is missing; it must be {any_of(list(kinds))}"
    return Finding((*spot.path, "kind"), "parent", what, cure)


_WORDS: dict[str, Callable[[Shape, Any, _Spot, ErrorDetails], Finding]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "union_tag_invalid": _bad_kind,
    "union_tag_not_found": _no_kind,
}

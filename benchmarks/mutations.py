"""Wrong specs made of the shipped ones: as text, as trees, by overrides. A case is a function of (seed, number)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from jobs.spec import JobSpec
from jobs.specfile import read
from jobs.specfile.schema import Shape
from jobs.specfile.yaml import parse
from tuning.spec.search import SearchSpec

Draw = random.Random
Kind = type[JobSpec] | type[SearchSpec]
FOLDERS: dict[str, Kind] = {"jobs/recipes": JobSpec, "tuning/searches": SearchSpec}
_SEARCHES = 0.15
"""Share of the cases that are searches, whose check takes ten times as long as that of a job."""


class Raw(str):
    """Text that is written into a tree as it is."""


NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 7, 64, 1000, 10**6, 10**9, 2**31, 2**63 - 1, 2**64, 2**64 - 1, -(2**63), 10**30),
    *(0.0, -0.0, 0.5, 1.0, 1.5, -0.1, 1e-9, 5e-324, 1e-320, 1e9, 1e30, 1e308, -1e308, 0.1 + 0.2),
    *map(Raw, (".nan", ".inf", "-.inf", "1e400", "-1e400", "1e-400", "0x7f", "0xffffffffffffffffff", "0o17", "1_000")),
    *map(Raw, ("01", "+1", "1.", ".5", "1e", "1:30", "9" * 400, "9" * 5000, "0." + "1" * 400)),
)
TEXTS: tuple[Any, ...] = (
    *("", " ", "x", "true", "null", "no", "1", "1e-3", "a.b.c", "a=b", "日本", "é", "e\u0301", "\u202etxet", "\u200b"),
    *("x" * 100, "x" * 20_000, "a\nb", "a\tb", "/", ".", "..", "~", "~root", "/dev/zero", "/dev/null", "file:///x"),
    *("s3://b/k", "https://u:p@h/x", "s3://", "://", "http://[", "jobs/recipes", "*", "[", "%s", "{0}", "$HOME", "\\"),
    *map(Raw, ('"\\ud800"', '"\\udfff\\ud800"', '"\\0"', '"\\e[31m"', '"\\x7f"', '"\\L"', '"\\uFEFF"', "'it''s'")),
    *map(Raw, ("!!str x", "!!python/object:os.system x", "!!binary aGk=", "&a x", "*a", "&a [*a]", "2026-01-01", "?")),
    *map(Raw, ("<<", "|\n", ">-", "@x", "`x`", "- x", "%YAML 1.1", "#x", '"', "'", "[", "{", "}", ",", ": :")),
)
TREES: tuple[Any, ...] = (
    *(None, True, False, [], {}, [[]], [{}], [None], {"kind": None}, {"kind": "x"}, {"kind": []}, {"kind": {}}),
    *({"": 1}, {"a.b": 1}, {"low": 0, "high": 1}, [1, 2], [1, 1], [0.5, 0.5, 0.5], ["x"], [{"kind": "mixup"}] * 2),
    *([0] * 3000, [{"kind": "x"}] * 3000, {f"k{n}": n for n in range(3000)}, [[[[[[[[]]]]]]]]),
    *map(Raw, ("[" * 99 + "]" * 99, "[" * 120 + "]" * 120, "{a: " * 99 + "1" + "}" * 99, "{1: 2}", "{[a]: 1}")),
)
VALUES = (*NUMBERS, *TEXTS, *TREES)
BYTES = [bytes([n]) for n in (0, 7, 9, 10, 13, 27, 32, 33, 34, 39, 42, 44, 45, 58, 91, 123, 127, 133, 160, 195, 255)]
BYTES += [
    "\u2028".encode(),
    "\ufeff".encode(),
    b"\xed\xa0\x80",
    "\x85".encode(),
    "\U0010ffff".encode(),
    "\ufffe".encode(),
]


@dataclass(frozen=True)
class Case:
    """A file's bytes, what it should be, and the overrides."""

    kind: Kind
    content: bytes
    overrides: tuple[str, ...]
    origin: str


@cache
def shipped() -> tuple[tuple[str, Kind, str], ...]:
    """Path, kind and text of every shipped recipe and search."""
    return tuple(
        (str(path), kind, path.read_text(encoding="utf-8"))
        for folder, kind in FOLDERS.items()
        for path in sorted(Path(folder).rglob("*.yaml"))
    )


@cache
def _names(kind: Kind) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.dotted for name in Shape.of(kind).names))


def case(seed: int, number: int) -> Case:
    """The case of that number."""
    draw = random.Random(f"{seed}/{number}")
    wanted: Kind = SearchSpec if draw.random() < _SEARCHES else JobSpec
    path, kind, text = draw.choice([each for each in shipped() if each[1] is wanted])
    way = draw.choice((_as_text, _as_tree, _by_override, _by_number))
    content, overrides = way(draw, kind, text)
    return Case(kind, content, tuple(overrides), f"{path}, {way.__name__.strip('_')}")


Edit = Callable[[Draw, list[bytes], bytes, int], list[bytes]]
EDITS: tuple[Edit, ...] = (
    lambda draw, lines, line, place: [line[:place] + draw.choice(BYTES) + line[place:]],
    lambda draw, lines, line, place: [line[:place] + line[place + draw.randint(1, 3) :]],
    lambda draw, lines, line, place: [line[:place]],
    lambda draw, lines, line, place: [b" " * draw.randint(1, 4) + line],
    lambda draw, lines, line, place: [line.lstrip()],
    lambda draw, lines, line, place: [b"\t" + line],
    lambda draw, lines, line, place: [line, line],
    lambda draw, lines, line, place: [],
    lambda draw, lines, line, place: [line, draw.choice(lines)],
    lambda draw, lines, line, place: [line.partition(b":")[0] + b": " + _value(draw)],
    lambda draw, lines, line, place: [line, b"---", line],
    lambda draw, lines, line, place: [line.replace(b": ", b": &a ", 1), b"zz: *a"],
    lambda draw, lines, line, place: [b"- " + line],
)
"""What replaces a line; ``place`` is a column of it."""


def _value(draw: Draw) -> bytes:
    return written(draw.choice(VALUES)).encode("utf-8", "surrogatepass")


def _as_text(draw: Draw, kind: Kind, text: str) -> tuple[bytes, list[str]]:
    """One to four edits of the lines or bytes."""
    lines = text.encode().split(b"\n")
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(lines))
        lines[at : at + 1] = draw.choice(EDITS)(draw, lines, lines[at], draw.randint(0, len(lines[at]))) or [b""]
    return b"\n".join(lines), []


def _as_tree(draw: Draw, kind: Kind, text: str) -> tuple[bytes, list[str]]:
    """One to three changes of the parsed values, written as YAML again."""
    tree, _ = parse(text)
    data: Any = deepcopy(tree.value) if tree else {}
    for _ in range(draw.randint(1, 3)):
        places = list(_places(data))
        node, key = draw.choice(places) if places else (data, None)
        ways = (_put, _put, _scale, _drop, _extra, _other_kind, _twice)
        draw.choice(ways)(draw, kind, node, key)
    rows = [f"{json.dumps(key)}: {written(value)}" for key, value in data.items()]
    return "\n".join(rows).encode("utf-8", "surrogatepass"), []


def _by_override(draw: Draw, kind: Kind, text: str) -> tuple[bytes, list[str]]:
    """One to three ``-s``; most names exist."""
    overrides = []
    for _ in range(draw.randint(1, 3)):
        name = draw.choice(_names(kind))
        if draw.random() < 0.15:
            place = draw.randint(0, len(name))
            odd = draw.choice((".", "..", "x", " ", "=", "-", "日", "\ud800", "\0", "[0]", "\x1b[31m", "A" * 300))
            name = name[:place] + odd + name[place + draw.randint(0, 2) :]
        value = written(draw.choice(VALUES if draw.random() < 0.6 else NUMBERS))
        overrides.append(draw.choice((f"{name}={value}",) * 12 + (name, value, f"{name}={value}={value}")))
    return text.encode(), overrides


def _by_number(draw: Draw, kind: Kind, text: str) -> tuple[bytes, list[str]]:
    """One or two numbers of the spec, defaults included, of any size: what is accepted is looked through."""
    numbers = _numbers(kind, text)
    overrides = []
    for name in draw.sample(list(numbers), draw.randint(1, 2)):
        size = 10 ** draw.uniform(-12, 12)
        value = round(size) if isinstance(numbers[name], int) or draw.random() < 0.2 else size
        overrides.append(f"{name}={draw.choice((value, value, value, *NUMBERS))}")
    return text.encode(), overrides


@cache
def _numbers(kind: Kind, text: str) -> dict[str, int | float]:
    with NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        leaves = read(file.name, kind).flatten()
    return {name: value for name, value in leaves.items() if type(value) in (int, float) and "[" not in name}


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (mapping or list, key) inside of a tree."""
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        if len(node) < 100:
            yield from _places(node[key])


def _put(draw: Draw, kind: Kind, node: Any, key: Any) -> None:
    if key is not None:
        node[key] = deepcopy(draw.choice(VALUES))


def _scale(draw: Draw, kind: Kind, node: Any, key: Any) -> None:
    """A number out of its usual range; whatever is no number becomes one."""
    if key is None:
        return
    value = node[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        node[key] = draw.choice(NUMBERS)
    else:
        node[key] = value * draw.choice((-1, 0, 1e-6, 0.5, 3, 1000, 10**6, 10**9, 1e300))


def _drop(draw: Draw, kind: Kind, node: Any, key: Any) -> None:
    if key is not None:
        del node[key]


def _extra(draw: Draw, kind: Kind, node: Any, key: Any) -> None:
    """A field of anywhere with any value."""
    name = draw.choice(_names(kind)).split(".")[-1]
    if isinstance(node, dict):
        node[draw.choice((name, name, f"{name}s", name.upper(), "", "日本", "a b", "x" * 300))] = draw.choice(VALUES)
    else:
        node.append(draw.choice((name, {"kind": name}, *VALUES)))


def _other_kind(draw: Draw, kind: Kind, node: Any, key: Any) -> None:
    """A kind of this slot or of another."""
    if isinstance(node, dict):
        node["kind"] = draw.choice(draw.choice(Shape.of(kind).kinds)[1])


def _twice(draw: Draw, kind: Kind, node: Any, key: Any) -> None:
    """A list's entry twice, a mapping inside of itself."""
    if isinstance(node, list):
        node.append(deepcopy(node[key]))
    elif key is not None:
        node[key] = deepcopy(node)


def written(value: Any) -> str:
    """A tree as YAML in one line; what is :class:`Raw` as it is."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    return json.dumps(value)

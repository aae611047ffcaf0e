"""YAML 1.2 text to plain data that knows where in the text each value is (ruamel.yaml's pure, safe composer).

Only what a spec can hold is taken: mappings with text keys, lists, text, numbers, true, false, null. 1e-4 is a number,
``no`` and 2026-01-01 are text. Anchors and aliases work; tags and merge keys do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + name for name in ("null", "bool", "int", "float", "str", "timestamp", "merge")}

MOST_CHARACTERS, MOST_LEVELS, MOST_VALUES = 1_000_000, 100, 100_000
"""What a text may have; a hostile one could hold the reader up for hours."""
_DEEP = f"mappings or lists are nested more than {MOST_LEVELS} levels deep"
_BRACKETS = re.compile(rf"(?:[\[{{]\s*){{{MOST_LEVELS + 1}}}")
_BITS, _SHOWN = 64, 40
_HALF = re.compile("[\ud800-\udfff]")

_CURES = (
    ("'\\t'", "YAML indents with spaces only"),
    ("mapping values", "quote a value that holds `: `, and give keys of one mapping the same indentation"),
    ("could not find expected ':'", "a key needs a colon and a space after it: `key: value`"),
    ("<block end>", "entries of one mapping or list need the same indentation"),
    ("',' or", "an opened bracket was not closed, or a comma is missing"),
    ("end of stream", "an opened quote or bracket was not closed"),
    ("cannot start any token", "put the value in quotes"),
    ("escape character", "double the backslash, or use single quotes instead of double ones"),
    ("undefined alias", "put the value in quotes if the * is part of it"),
    ("another document", "one file holds one spec; take the line `---` and what follows away"),
)


@dataclass(frozen=True)
class Mark:
    """A stretch of a line; line and column count from 1."""

    line: int = 1
    column: int = 1
    width: int = 1


@dataclass
class Tree:
    """A value, where it is, and the trees inside it (by key or by index)."""

    value: Any
    mark: Mark
    inside: dict[Any, Tree] = field(default_factory=dict)
    keys: dict[str, Mark] = field(default_factory=dict)

    def get(self, step: Any) -> Tree | None:
        """The tree at a key; in a list, at a (kind, occurrence index) of its entries."""
        if not isinstance(self.value, list):
            return self.inside.get(step)
        kind, nth = step
        same = [tree for tree in self.inside.values() if kind_of(tree.value) == kind]
        return same[nth] if nth < len(same) else None


@dataclass(frozen=True)
class Flaw:
    """What is wrong with the text itself."""

    mark: Mark
    what: str
    cure: str = ""


def split(text: str) -> list[str]:
    """The lines of a text as YAML 1.2 counts them; ``str.splitlines`` knows more line breaks."""
    return re.split(r"\r\n|\n|\r", text)


def kind_of(entry: Any) -> Any:
    """The kind of a list's entry, None where it has none."""
    return entry.get("kind") if isinstance(entry, dict) else None


def parse(text: str) -> tuple[Tree | None, list[Flaw]]:
    """The tree of a text (None for an empty or unreadable one), and every flaw that was found."""
    if len(text) > MOST_CHARACTERS:
        what = f"{len(text):,} characters are more than a spec has; at most {MOST_CHARACTERS:,} are read"
        return None, [Flaw(Mark(), what)]
    if deep := _BRACKETS.search(text):  # ruamel.yaml takes a second for thousands of them
        return None, [Flaw(_mark_at(text, deep.start()), _DEEP)]
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # YAML 1.2 allows an anchor's name to be used again
    try:
        node = yaml.compose(text)
        if node is None:
            return None, []
        reader = _Reader(yaml.constructor, split(text))
        return reader.tree(node, ()), reader.flaws
    except ReaderError as error:
        mark = _mark_at(text, error.position)
        return None, [Flaw(mark, f"character U+{ord(text[error.position]):04X} is not allowed in YAML", "delete it")]
    except MarkedYAMLError as error:
        return None, [_syntax(error)]
    except RecursionError:
        return None, [Flaw(Mark(), _DEEP)]
    except _TooLargeError as error:
        return None, [Flaw(error.args[0], error.args[1])]
    except (YAMLError, ValueError) as error:
        return None, [Flaw(Mark(), f"not YAML: {error}")]


def _mark_at(text: str, position: int) -> Mark:
    before = split(text[:position])
    return Mark(len(before), len(before[-1]) + 1)


def _syntax(error: MarkedYAMLError) -> Flaw:
    problem, context = f"{error.context or ''} {error.problem or ''}".strip(), error.context or ""
    opened = any(word in context for word in ("simple key", "quoted scalar", "flow"))
    at = error.context_mark if opened and error.context_mark else error.problem_mark
    cure = next((cure for sign, cure in _CURES if sign in problem), "")
    return Flaw(Mark(at.line + 1, at.column + 1) if at else Mark(), f"not YAML: {error.problem}", cure)


class _TooLargeError(Exception):
    """A text that stands for more than any spec holds."""


class _Reader:
    """Trees of composed nodes; aliases are written out, so what they stand for counts every time."""

    def __init__(self, constructor: Any, lines: list[str]) -> None:
        self.constructor, self.lines = constructor, lines
        self.flaws: list[Flaw] = []
        self.values = 0

    def tree(self, node: Any, above: tuple[int, ...]) -> Tree:
        """The tree of a node inside of those nodes; flaws are noted on the way."""
        mark = self.mark(node)
        self.values += 1
        if self.values > MOST_VALUES:
            raise _TooLargeError(mark, f"more than {MOST_VALUES:,} values, those of aliases counted")
        if len(above) > MOST_LEVELS:
            raise _TooLargeError(mark, _DEEP)
        if id(node) in above:
            self.flaws.append(Flaw(mark, f"alias *{node.anchor} is inside its own anchor", "write the value out"))
            return Tree(None, mark)
        above = (*above, id(node))
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            entries = {number: self.tree(entry, above) for number, entry in enumerate(node.value)}
            return Tree([entry.value for entry in entries.values()], mark, entries)
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, mark, above)
        if isinstance(node, ScalarNode) and node.tag in _SCALARS:
            return Tree(self._scalar(node, mark), mark)
        what = f"tag {str(node.tag).replace(_TAG, '!!')} is not allowed in a spec"
        self.flaws.append(Flaw(mark, what, "take the tag away"))
        return Tree(None, mark)

    def _mapping(self, node: Any, mark: Mark, above: tuple[int, ...]) -> Tree:
        tree = Tree({}, mark)
        for key, value in node.value:
            at = self.mark(key)
            if not isinstance(key, ScalarNode) or key.tag not in (_TAG + "str", _TAG + "merge"):
                shown = f"`{_cut(key.value)}`" if isinstance(key, ScalarNode) else "a mapping or list"
                self.flaws.append(Flaw(at, f"a key must be a name, got {shown}", "put it in quotes"))
            elif half := _HALF.search(key.value):
                self.flaws.append(Flaw(at, f"the name of a key holds {_character(half[0])}", "delete it"))
            elif key.value in tree.keys:
                first = tree.keys[key.value].line
                self.flaws.append(Flaw(at, f"duplicate key {key.value}: line {first} has it already", "keep one"))
            else:
                inner = self.tree(value, above)
                tree.keys[key.value], tree.inside[key.value], tree.value[key.value] = at, inner, inner.value
        return tree

    def _scalar(self, node: Any, mark: Mark) -> Any:
        as_is = node.tag in (_TAG + "timestamp", _TAG + "merge")
        try:
            value = node.value if as_is else self.constructor.construct_object(node)
        except (ValueError, KeyError, YAMLError):
            self.flaws.append(Flaw(mark, f"`{_cut(node.value)}` is no {node.tag.removeprefix(_TAG)}"))
            return None
        if isinstance(value, int) and value.bit_length() > _BITS:
            self.flaws.append(Flaw(mark, f"`{_cut(node.value)}` is too large a number; {_BITS} bits are allowed"))
            return None
        if isinstance(value, str) and (half := _HALF.search(value)):
            self.flaws.append(Flaw(mark, f"the text holds {_character(half[0])}", "delete it"))
            return None
        return value

    def mark(self, node: Any) -> Mark:
        """Where a node begins, and how wide it is on that line."""
        start, end = node.start_mark, node.end_mark
        line = self.lines[start.line] if start.line < len(self.lines) else ""
        last = end.column if end.line == start.line else len(line.split(" #")[0].rstrip())
        return Mark(start.line + 1, start.column + 1, max(1, last - start.column))


def _character(half: str) -> str:
    return f"U+{ord(half):04X}, half of a surrogate pair, which is no character"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

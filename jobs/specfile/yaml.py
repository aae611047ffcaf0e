"""YAML 1.2 text to plain data that knows where in the text each value stands (ruamel.yaml's pure, safe composer).

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
    """A value, where it stands, and the trees inside it (by key or by index)."""

    value: Any
    mark: Mark
    inside: dict[Any, Tree] = field(default_factory=dict)
    keys: dict[str, Mark] = field(default_factory=dict)

    def get(self, step: Any) -> Tree | None:
        """The tree at a key; in a list, at an entry of a (kind, how manieth of it)."""
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
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except ReaderError as error:
        before = text[: error.position]
        mark = Mark(len(split(before)), len(split(before)[-1]) + 1)
        return None, [Flaw(mark, f"character U+{ord(text[error.position]):04X} may not stand in YAML", "delete it")]
    except MarkedYAMLError as error:
        return None, [_syntax(error)]
    except YAMLError as error:
        return None, [Flaw(Mark(), str(error))]
    if node is None:
        return None, []
    flaws: list[Flaw] = []
    return _tree(node, yaml.constructor, split(text), flaws, ()), flaws


def _syntax(error: MarkedYAMLError) -> Flaw:
    problem, context = f"{error.context or ''} {error.problem or ''}".strip(), error.context or ""
    opened = any(word in context for word in ("simple key", "quoted scalar", "flow"))
    at = error.context_mark if opened and error.context_mark else error.problem_mark
    cure = next((cure for sign, cure in _CURES if sign in problem), "")
    return Flaw(Mark(at.line + 1, at.column + 1) if at else Mark(), f"not YAML: {error.problem}", cure)


def _tree(node: Any, constructor: Any, lines: list[str], flaws: list[Flaw], above: tuple[int, ...]) -> Tree:
    mark = _mark(node, lines)
    if id(node) in above:
        flaws.append(Flaw(mark, f"alias *{node.anchor} stands inside its own anchor", "write the value out"))
        return Tree(None, mark)
    above = (*above, id(node))
    if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
        entries = {i: _tree(entry, constructor, lines, flaws, above) for i, entry in enumerate(node.value)}
        return Tree([entry.value for entry in entries.values()], mark, entries)
    if isinstance(node, MappingNode) and node.tag == _TAG + "map":
        tree = Tree({}, mark)
        for key, value in node.value:
            at = _mark(key, lines)
            if not isinstance(key, ScalarNode) or key.tag not in (_TAG + "str", _TAG + "merge"):
                shown = f"`{key.value}`" if isinstance(key, ScalarNode) else "a mapping or list"
                flaws.append(Flaw(at, f"a key must be a name, got {shown}", "put it in quotes"))
                continue
            if key.value in tree.keys:
                first = tree.keys[key.value].line
                flaws.append(Flaw(at, f"duplicate key {key.value}: it stands on line {first} already", "keep one"))
                continue
            inner = _tree(value, constructor, lines, flaws, above)
            tree.keys[key.value], tree.inside[key.value], tree.value[key.value] = at, inner, inner.value
        return tree
    if isinstance(node, ScalarNode) and node.tag in _SCALARS:
        as_is = node.tag in (_TAG + "timestamp", _TAG + "merge")
        try:
            return Tree(node.value if as_is else constructor.construct_object(node), mark)
        except (ValueError, KeyError, YAMLError):
            flaws.append(Flaw(mark, f"`{node.value}` is no {node.tag.removeprefix(_TAG)}"))
            return Tree(None, mark)
    flaws.append(Flaw(mark, f"tag {str(node.tag).replace(_TAG, '!!')} is not allowed in a spec", "take the tag away"))
    return Tree(None, mark)


def _mark(node: Any, lines: list[str]) -> Mark:
    start, end = node.start_mark, node.end_mark
    line = lines[start.line] if start.line < len(lines) else ""
    last = end.column if end.line == start.line else len(line.split(" #")[0].rstrip())
    return Mark(start.line + 1, start.column + 1, max(1, last - start.column))

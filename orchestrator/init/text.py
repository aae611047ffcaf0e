"""Specs as YAML text with a comment on what was decided."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from jobs.names import printable
from jobs.specfile import inline

_WIDTH = 118


def block(data: Mapping[str, Any], why: Mapping[str, str], wide: tuple[str, ...] = ()) -> str:
    """A spec as text: a line a field, with its reason as a comment.

    Args:
        data: the fields, in order.
        why: reasons by dotted name; an entry of a list goes by its kind.
        wide: fields that are mappings to be written a line an entry.
    """
    lines: list[str] = []
    for name, value in data.items():
        if name in wide:
            lines += [*_line(f"{name}:", why.get(name, ""))]
            for key, inner in value.items():
                lines += _line(f"  {key}: {inline(inner)}", why.get(f"{name}.{key}", ""))
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            lines += [*_line(f"{name}:", why.get(name, ""))]
            for entry in value:
                lines += _line(f"  - {inline(entry)}", why.get(f"{name}.{entry.get('kind')}", ""))
        else:
            lines += _line(f"{name}: {inline(value)}", why.get(name, ""))
    return "\n".join(lines) + "\n"


def comment(text: str, indent: str = "") -> list[str]:
    """A text as lines of a comment."""
    return textwrap.wrap(printable(text), _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _line(line: str, why: str) -> list[str]:
    """The reason beside the line where there is room, else above it."""
    if not why:
        return [line]
    beside = f"{line}  # {why}"
    if len(beside) <= _WIDTH and why.isprintable():
        return [beside]
    return [*comment(why, line[: len(line) - len(line.lstrip())]), line]

"""The paths in a spec: the type of a field says that it is one, and one walk finds them.

A field is declared as :data:`PathOrUrl` or :data:`LocalPath`, alone or inside a union or a tuple. A mapping whose keys
are dotted names of another spec is marked with :class:`NamesOf`, so that the paths among its values are found too.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.urls import absolute as absolute_path
from jobs.urls import is_url, local


@dataclass(frozen=True)
class PathField:
    """Marks a path; ``no_url`` says why it cannot be a URL, and is empty where it can."""

    no_url: str = ""


PathOrUrl = Annotated[str, PathField()]
LocalPath = Annotated[str, PathField("it must be a path of this machine")]


@dataclass(frozen=True)
class NamesOf:
    """Marks a mapping: dotted names of ``spec`` -> values, or mappings that hold values under the keys ``within``."""

    spec: type[BaseModel]
    within: tuple[str, ...] = ()


class Found(NamedTuple):
    """A path in a spec.

    Attributes:
        name: dotted name of its field.
        keys: of the fields, mappings and lists that lead to it.
        value: the path.
        no_url: see :class:`PathField`.
    """

    name: str
    keys: tuple[str | int, ...]
    value: str
    no_url: str


Node = TypeVar("Node")


def paths(node: Any, kind: Any = None, prefix: str = "") -> Iterator[Found]:
    """Every path in a spec, or in its JSON data.

    Args:
        node: the spec or the data.
        kind: class that the data are of; not needed for a spec.
        prefix: dotted name of the spec itself.
    """
    each: dict[tuple[str | int, ...], Found] = {}
    for found in _walk(kind or type(node), node, prefix, ()):
        if found.keys not in each or not found.no_url:  # a dotted name may be a field of several kinds
            each[found.keys] = found
    yield from each.values()


def changed(node: Node, change: Callable[[Found], str], kind: Any = None, prefix: str = "") -> Node:
    """A copy of a spec, or of its JSON data, with every path changed; arguments as for :func:`paths`."""
    for found in paths(node, kind, prefix):
        if (new := change(found)) != found.value:
            node = _put(node, found.keys, new)
    return node


def absolute(spec: Node, prefix: str = "") -> Node:
    """The spec with absolute paths, so that it means the same in another directory; URLs are left alone.

    Args:
        spec: any.
        prefix: dotted name of the spec itself, for messages.

    Raises:
        ValueError: a URL has a password in it, or is where a path of this machine must be.
    """

    def change(found: Found) -> str:
        if not found.no_url:
            return absolute_path(found.value, found.name)
        if is_url(found.value):
            raise ValueError(f"{found.name} {found.value!r}: {found.no_url}")
        return local(found.value)

    return changed(spec, change, prefix=prefix)


def _walk(kind: Any, node: Any, name: str, keys: tuple[str | int, ...]) -> Iterator[Found]:
    """The paths in a node of the type ``kind``."""
    marks = []
    if get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
    for mark in marks:
        if isinstance(mark, PathField) and isinstance(node, str):
            yield Found(name, keys, node, mark.no_url)
        elif isinstance(mark, NamesOf) and isinstance(node, dict):
            for key, value in node.items():
                for inner in _named(mark.spec, key.split(".")):
                    yield from _walk_values(inner, value, _join(name, key), (*keys, key), mark.within)
    if isinstance(node, BaseModel):
        for field, info in type(node).model_fields.items():
            yield from _walk(_marked(info), getattr(node, field), _join(name, field), (*keys, field))
    elif get_origin(kind) in (Union, types.UnionType):
        for each in get_args(kind):
            yield from _walk(each, node, name, keys)
    elif isinstance(node, list | tuple) and get_origin(kind) in (list, tuple):
        for place, entry in enumerate(node):
            of = entry.get("kind", "") if isinstance(entry, dict) else getattr(entry, "kind", "")
            yield from _walk(get_args(kind)[0], entry, _join(name, of), (*keys, place))
    elif isinstance(node, dict) and get_origin(kind) is dict:
        for key, value in node.items():
            yield from _walk(get_args(kind)[1], value, _join(name, key), (*keys, key))
    elif isinstance(node, dict) and _is_spec(kind) and node.get("kind") in (None, *_kinds(kind)):
        for field in [field for field in node if field in kind.model_fields]:
            yield from _walk(_marked(kind.model_fields[field]), node[field], _join(name, field), (*keys, field))


def _walk_values(
    kind: Any, node: Any, name: str, keys: tuple[str | int, ...], within: tuple[str, ...]
) -> Iterator[Found]:
    """The paths in a value of a mapping of dotted names, or in what it holds ``within``."""
    if not within:
        yield from _walk(kind, node, name, keys)
        return
    for key in within:
        held = node.get(key) if isinstance(node, dict) else getattr(node, key, None)
        if isinstance(held, list | tuple):
            for place, value in enumerate(held):
                yield from _walk(kind, value, name, (*keys, key, place))
        else:
            yield from _walk(kind, held, name, (*keys, key))


def _named(kind: Any, parts: list[str], entry: bool = False) -> Iterator[Any]:
    """The types that a dotted name has: one for each kind that has it."""
    if get_origin(kind) is Annotated:
        kind = kind if not parts else get_args(kind)[0]
    if not parts:
        yield kind
    elif get_origin(kind) in (Union, types.UnionType, list, tuple, Annotated):
        for each in get_args(kind):
            yield from _named(each, parts, entry or get_origin(kind) in (list, tuple))
    elif _is_spec(kind):
        if entry:
            if parts[0] in _kinds(kind):
                yield from _named(kind, parts[1:])
        elif info := kind.model_fields.get(parts[0]):
            yield from _named(_marked(info), parts[1:])


def _put(node: Any, keys: tuple[str | int, ...], value: str) -> Any:
    """A copy of a node with a value at a place inside of it."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, BaseModel):
        return node.model_copy(update={str(key): _put(getattr(node, str(key)), rest, value)})
    if isinstance(node, dict):
        return {**node, key: _put(node[key], rest, value)}
    assert isinstance(key, int)
    return type(node)((*node[:key], _put(node[key], rest, value), *node[key + 1 :]))


def _marked(info: FieldInfo) -> Any:
    """The type of a field, with its marks."""
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _is_spec(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kinds(kind: type[BaseModel]) -> tuple[str, ...]:
    """The values that ``kind`` may have in a spec; empty where it has no kind."""
    field = kind.model_fields.get("kind")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def _join(name: str, more: str) -> str:
    return f"{name}.{more}" if name and more else name or more

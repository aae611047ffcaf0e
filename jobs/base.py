"""The base of every spec: frozen, strict about names, addressed by dotted names."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from jobs.paths import NamesOf

DOTTED = "keys are dotted names"
"""Says so of a field, a mapping: ``set: Annotated[dict[str, JsonValue], DOTTED]``; see :func:`assign`."""


def _make_strict(schema: Any) -> None:
    """Strict numbers and booleans; ``strict=True`` in the config would refuse lists for tuples as well."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
        for inner in schema.values():
            _make_strict(inner)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            _make_strict(inner)


class Spec(BaseModel):
    """A frozen pydantic model that refuses unknown keys, text and booleans as numbers, and numbers as booleans.

    A field's docstring is its description in the JSON Schema. Fields are addressed by dotted names; an entry of a list
    of specs by its ``kind`` (``batch.mixup.alpha``), never by its index; a union by the field alone (``optimizer.lr``).

    Attributes:
        elsewhere: what to do with a file that is of another kind of spec; empty where there is but one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
    elsewhere: ClassVar[str] = ""

    def flatten(self) -> dict[str, Any]:
        """Every field under its dotted name; the values are JSON scalars, lists of them or empty mappings.

        An entry of a list of specs that has no fields is True under its kind.
        """
        return dict(_leaves("", self.model_dump(mode="json")))

    def override(self, changes: Mapping[str, Any]) -> Self:
        """A validated copy with ``changes`` (dotted name -> value) applied; see :func:`assign`.

        Raises:
            pydantic.ValidationError: the changed spec is not valid.
        """
        return type(self).model_validate(assign(self.model_dump(mode="json"), changes, type(self)))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """pydantic's hook: the schema by which it validates."""
        schema = handler(source)
        _make_strict(schema)
        return schema


def assign(data: Mapping[str, Any], changes: Mapping[str, Any], spec: type[Spec] | None = None) -> dict[str, Any]:
    """Spec data with ``changes`` (dotted name -> value) applied; both are left alone.

    A changed ``kind`` starts that slot afresh, since the old kind's fields mean nothing to the new one. A name inside a
    list of specs finds the entry of that kind, adds it where it is missing, and removes it when the value is None; the
    value True leaves its fields as they are. What ``data`` leaves out becomes a mapping, or a list where ``spec``, the
    class the data is for, has a list of specs. In a mapping with :data:`DOTTED` keys the rest of a name is one key, or
    leads on from the longest key that is there.

    Raises:
        ValueError: an entry of a list of specs is set to something else than its fields, True or None.
    """
    result: dict[str, Any] = json.loads(json.dumps(data))
    for name in _in_order(changes):
        _assign(result, name.split("."), copy.deepcopy(changes[name]), [spec] if spec else [])
    return result


def _in_order(names: Iterable[str]) -> list[str]:
    """The names as they come, but a slot before its fields, and its kind before the others."""
    ranks: dict[str, int] = {}
    places: dict[str, list[int]] = {}
    for name in names:
        path = name.split(".")
        prefixes = (".".join(path[: length + 1]) for length in range(len(path)))
        places[name] = [
            ranks.setdefault(prefix, 0 if prefix.endswith(".kind") else len(ranks) + 1) for prefix in prefixes
        ]
    return sorted(places, key=places.__getitem__)


def _assign(node: Any, path: list[str], value: Any, specs: list[type[BaseModel]]) -> None:
    head, rest = path[0], path[1:]
    if isinstance(node, list):
        entry = next((entry for entry in node if isinstance(entry, dict) and entry.get("kind") == head), None)
        if not rest and value is None:
            node[:] = [other for other in node if other is not entry]
            return
        if entry is None:
            entry = {"kind": head}
            node.append(entry)
        if rest:
            _assign(entry, rest, value, specs)
        elif isinstance(value, dict):
            node[node.index(entry)] = {"kind": head, **value}
        elif value is not True:
            raise ValueError(
                f"{head} is an entry of a list: give it fields, true to add it or null to remove it, got {value!r}"
            )
    elif not rest:
        if head == "kind" and node.get("kind") != value:
            node.clear()
        node[head] = value
    else:
        fields = [field for spec in specs for field in _fields(spec, head.split("."))]
        inside = [found for field in fields for found in _specs_in(field.annotation)]
        if not isinstance(node.get(head), dict | list):
            node[head] = [] if any(listed for _, listed in inside) else {}
        within: list[type[BaseModel]] = [spec for spec, _ in inside]
        for field in fields:
            if DOTTED in field.metadata:
                rest = _dotted(node[head], ".".join(rest))
                within = [mark.spec for mark in field.metadata if isinstance(mark, NamesOf)]
        _assign(node[head], rest, value, within)


def _fields(spec: type[BaseModel], path: list[str]) -> Iterator[FieldInfo]:
    """The fields that a dotted name may mean; a union may have several."""
    field = spec.model_fields.get(path[0])
    if field is not None and len(path) == 1:
        yield field
    elif field is not None:
        for inner, _ in _specs_in(field.annotation):
            yield from _fields(inner, path[1:])


def _dotted(node: Any, name: str) -> list[str]:
    """The path to ``name`` in a mapping of dotted names: a key, or one that is there and what follows it."""
    before = [key for key in node if name.startswith(f"{key}.") and isinstance(node[key], dict | list)]
    if name in node or not before:
        return [name]
    key = max(before, key=len)
    return [key, *name[len(key) + 1 :].split(".")]


def _specs_in(annotation: Any, listed: bool = False) -> Iterator[tuple[type[Spec], bool]]:
    """The spec classes that a field's annotation allows, each with whether it is an entry of a list."""
    for inner in get_args(annotation):
        yield from _specs_in(inner, listed or get_origin(annotation) in (tuple, list))
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation, listed


def _leaves(prefix: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(f"{prefix}{key}.", value)
    elif isinstance(node, list) and node and all(isinstance(entry, dict) and "kind" in entry for entry in node):
        for entry in node:
            fields = {key: value for key, value in entry.items() if key != "kind"}
            yield from _leaves(f"{prefix}{entry['kind']}.", fields or True)
    else:
        yield prefix.removesuffix("."), node

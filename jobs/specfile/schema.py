"""What a spec class allows, read off its JSON Schema: names, types, bounds, choices and kinds, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from jobs.words import any_of

Node = dict[str, Any]

_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


class _Generate(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # "Lr" above "lr" adds nothing for an editor's user


def schema(cls: type[BaseModel]) -> Node:
    """JSON Schema (draft 2020-12) of a spec class, for editors: docstrings as descriptions, no unknown keys.

    A kind is a constant, required wherever there is a choice of kinds.
    """
    root = cls.model_json_schema(schema_generator=_Generate)
    for node in _nodes(root):
        for ref in node.get("discriminator", {}).get("mapping", {}).values():
            target = root["$defs"][ref.rpartition("/")[2]]
            target["required"] = sorted({"kind", *target.get("required", [])}, key=list(target["properties"]).index)
        if "kind" in (keys := node.get("properties", {})):
            node["properties"] = {"kind": keys["kind"], **keys}
        if isinstance(description := node.get("description"), str):
            node["description"] = re.sub(r"\bNone\b", "null", " ".join(description.split()))
    return {"$schema": GenerateJsonSchema.schema_dialect, **root}


def _nodes(node: Any) -> Iterator[Node]:
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(inner)


class Name(NamedTuple):
    """A dotted name that a spec can have; ``kind``: in a choice of kinds, the one that the innermost mapping has."""

    parts: tuple[str, ...]
    kind: str | None
    entry: bool
    """Whether the last part is the kind of a list's entry."""

    @property
    def dotted(self) -> str:
        """The parts, joined."""
        return ".".join(self.parts)


class Shape:
    """A spec class's JSON Schema, to be walked along the data."""

    def __init__(self, cls: type[BaseModel]) -> None:
        self.root = schema(cls)
        self.names = list(self._names(self.root, (), None))
        self.kinds = list(self._kinds(self.root, ()))
        """(dotted name of a slot, its kinds, whether it is a list) for every choice of kinds."""

    @classmethod
    @cache
    def of(cls, spec: type[BaseModel]) -> Shape:
        """The shape of a class, computed once."""
        return cls(spec)

    def resolve(self, node: Node) -> Node:
        """The node itself, behind its reference."""
        while "$ref" in node:
            node = {**self.root["$defs"][node["$ref"].rpartition("/")[2]], **{k: node[k] for k in node if k != "$ref"}}
        return node

    def options(self, node: Node) -> list[Node]:
        """What may be at a node: the branches of its union, or itself."""
        node = self.resolve(node)
        return [found for branch in node.get("anyOf", ()) for found in self.options(branch)] or [node]

    def fitting(self, node: Node, value: Any) -> Node:
        """The one branch of a union that is for a mapping or list like ``value``; else the node itself."""
        wanted = "array" if isinstance(value, list) else "object" if isinstance(value, dict) else None
        found = [option for option in self.options(node) if option.get("type", "object") == wanted]
        return found[0] if len(found) == 1 else self.resolve(node)

    def choices(self, node: Node) -> dict[str, Node]:
        """kind -> node of a choice of kinds; empty where it is none."""
        mapping = self.resolve(node).get("discriminator", {}).get("mapping", {})
        return {kind: self.resolve({"$ref": ref}) for kind, ref in mapping.items()}

    def step(self, node: Node, key: str | int) -> Node:
        """The node at a mapping's key or a list's index; an empty one where anything or nothing is allowed."""
        if isinstance(key, int):
            fixed = node.get("prefixItems", [])
            return fixed[key] if key < len(fixed) else node.get("items") or {}
        more = node.get("additionalProperties")
        return node.get("properties", {}).get(key) or (more if isinstance(more, dict) else {})

    def describe(self, node: Node) -> str:
        """What may be at a node, in words; empty where anything may."""
        words = [word for option in self.options(node) for word in self._words(option)]
        return any_of(words) if all(words) else ""

    def _words(self, node: Node) -> list[str]:
        kind = node.get("type")
        if "const" in node or "enum" in node:
            return [shown(choice) for choice in node.get("enum", [node.get("const")])]
        if kinds := self.choices(node):
            return [f"a mapping whose kind is {any_of(list(kinds))}"]
        if kind in ("number", "integer"):
            bounds = [f"{sign} {_number(node[key])}" for key, sign in _BOUNDS.items() if key in node]
            return [" ".join(["a number" if kind == "number" else "an integer", " and ".join(bounds)]).strip()]
        if kind == "string":
            pattern = f" that matches {node['pattern']}" if "pattern" in node else ""
            return [f"text{pattern}{_span(node, 'Length', 'character')}"]
        if kind == "array":
            inner = node.get("items") or (node["prefixItems"][0] if node.get("prefixItems") else {})
            each = self.describe(inner)
            return [f"a list{_span(node, 'Items', 'entry')}" + (f", each {each}" if each else "")]
        if kind == "object":
            keys = ", ".join(node.get("properties", ()))
            return [f"a mapping with keys among {keys}" if keys else "a mapping"]
        return {"boolean": ["true", "false"], "null": ["null"]}.get(str(kind), [""])

    def _names(self, node: Node, above: tuple[str, ...], kind: str | None) -> Iterator[Name]:
        for option in self.options(node) if len(above) < 8 else ():
            if kinds := self.choices(option):
                for kind, chosen in kinds.items():
                    yield from self._names(chosen, above, kind)
            elif option.get("type") == "array":
                for kind, chosen in self.choices(option.get("items") or {}).items():
                    yield Name((*above, kind), None, True)
                    yield from self._names(chosen, (*above, kind), kind)
            for key, inner in option.get("properties", {}).items():
                yield Name((*above, key), kind, False)
                yield from self._names(inner, (*above, key), None)

    def _kinds(self, node: Node, above: tuple[str, ...]) -> Iterator[tuple[str, list[str], bool]]:
        for option in self.options(node) if len(above) < 8 else ():
            items = option.get("items") or {}
            listed = isinstance(items, dict) and bool(self.choices(items))
            kinds = self.choices(items if listed else option)
            if kinds:
                yield ".".join(above), list(kinds), listed
            for kind, chosen in kinds.items():
                yield from self._kinds(chosen, (*above, kind) if listed else above)
            for key, inner in option.get("properties", {}).items():
                yield from self._kinds(inner, (*above, key))


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 and value == int(value) else f"{value:g}"


def shown(value: Any) -> str:
    """A value as YAML would have it, cut to a readable length."""
    if isinstance(value, dict):
        return f"a mapping with keys {', '.join(value)}" if value else "an empty mapping"
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.-]*", value) and len(value) <= 60:
        return value if value.lower() not in ("true", "false", "null") else f'"{value}"'
    text = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, list) and (len(text) > 60 or any(isinstance(entry, dict | list) for entry in value)):
        return f"a list of {len(value)} {'entry' if len(value) == 1 else 'entries'}"
    return text if len(text) <= 60 else f'{text[:57]}..."'


def _span(node: Node, what: str, unit: str) -> str:
    least, most = node.get(f"min{what}"), node.get(f"max{what}")
    if least is None and most is None:
        return ""
    count = f"{least}" if least == most else f"{least} to {most}" if least and most else ""
    count = count or (f"at least {least}" if most is None else f"at most {most}")
    plural = unit if count.endswith(" 1") or count == "1" else {"entry": "entries"}.get(unit, f"{unit}s")
    return f" of {count} {plural}"

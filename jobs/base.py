"""The base of every spec: frozen, strict about names, addressed by dotted names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen pydantic model that refuses unknown keys.

    A field's docstring is its description in the JSON Schema. Fields are addressed by dotted names; an entry of a list of
    specs by its ``kind`` (``batch.mixup.alpha``), never by its index; a union by the field alone (``optimizer.lr``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def flatten(self) -> dict[str, Any]:
        """Every field under its dotted name; the values are JSON scalars or lists of them."""
        return dict(_leaves("", self.model_dump(mode="json")))

    def override(self, changes: Mapping[str, Any]) -> Self:
        """A validated copy with ``changes`` (dotted name -> value) applied; see :func:`assign`.

        Raises:
            pydantic.ValidationError: the changed spec is not valid.
        """
        return type(self).model_validate(assign(self.model_dump(mode="json"), changes))


def assign(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Spec data with ``changes`` (dotted name -> value) applied; ``data`` itself is left alone.

    A changed ``kind`` starts that slot afresh, since the old kind's fields mean nothing to the new one. A name inside a
    list of specs finds the entry of that kind, adds it where it is missing, and removes it when the value is None.
    """
    result: dict[str, Any] = json.loads(json.dumps(data))
    for name in sorted(changes, key=lambda name: (name.split(".")[-1] != "kind", name.count("."))):
        _assign(result, name.split("."), changes[name])
    return result


def _assign(node: Any, path: list[str], value: Any) -> None:
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
            _assign(entry, rest, value)
        elif isinstance(value, dict):
            node[node.index(entry)] = {"kind": head, **value}
    elif not rest:
        if head == "kind" and node.get("kind") != value:
            node.clear()
        node[head] = value
    else:
        if not isinstance(node.get(head), dict | list):
            node[head] = {}
        _assign(node[head], rest, value)


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

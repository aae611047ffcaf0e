"""Specs and their values as YAML text."""

from __future__ import annotations

from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

from jobs.base import Spec


class _Representer(SafeRepresenter):  # type: ignore[misc]  # ruamel.yaml has no types
    """Lists of scalars in one line, and text that YAML might change (line breaks, control characters) in quotes."""

    def represent_list(self, data: list[Any]) -> Any:
        flow = self.default_flow_style or not any(isinstance(entry, dict) for entry in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flow)

    def represent_str(self, data: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if data.isprintable() else '"')


_Representer.add_representer(list, _Representer.represent_list)
_Representer.add_representer(str, _Representer.represent_str)


def dump(spec: Spec) -> str:
    """The whole spec as YAML that reads back to an equal one: fields in their order, ``kind`` first."""
    return _written(_kind_first(spec.model_dump(mode="json")))


def inline(value: Any) -> str:
    """A value of a spec as YAML in one line, as it can stand after ``name:`` or in braces."""
    return _written([value], one_line=True).strip()[1:-1]


def _written(data: Any, one_line: bool = False) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = one_line
    yaml.sort_base_mapping_type_on_output = False
    yaml.Representer = _Representer
    if not one_line:
        yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 10**9 if one_line else 120
    yaml.allow_unicode = True
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    out = StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def _kind_first(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _kind_first(data[key]) for key in sorted(data, key=lambda key: key != "kind")}
    return [_kind_first(entry) for entry in data] if isinstance(data, list) else data

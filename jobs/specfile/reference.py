"""A reference read off the spec classes: every field with its meaning, values, default and papers.

A *section* is one mapping of a spec: the spec itself, a slot with a single form (``ema``), or one kind of a slot
(``optimizer.sgd``, ``batch.mixup``). Meanings are the attributes' docstrings; papers are the citations in the docstring
of the field, of the class, or of its module.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from jobs.base import DOTTED, Spec
from jobs.specfile.schema import Shape, shown

NAME = "NAME"
"""In a dotted name, a key that the user chooses: ``space.NAME.low``."""
_ARXIV = r"\d{4}\.\d{4,5}"
_CITATION = re.compile(rf"\(([A-Z][^()]*?\b(?:{_ARXIV}|(?:19|20)\d\d\b(?!\.\d))[^()]*)\)")


@dataclass(frozen=True)
class Entry:
    """A field, in words.

    Attributes:
        name: the dotted name in a spec: ``optimizer.lr``.
        full: the same below its section: ``optimizer.sgd.lr``.
        meaning, values, default: what it means, what it may be (with its range), and what it is when left out.
        papers: citations of its own.
    """

    name: str
    full: str
    meaning: str
    values: str
    default: str
    papers: tuple[str, ...]

    @property
    def key(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    def same(self, other: Entry) -> bool:
        """Whether both kinds of a slot have the same field."""
        return (self.name, self.meaning, self.values, self.default) == (
            *(other.name, other.meaning, other.values, other.default),
        )


@dataclass(frozen=True)
class Section:
    """One mapping of a spec, in words.

    Attributes:
        slot: the dotted name of what holds it: ``optimizer``, ``batch``, ``ema``; empty for the spec itself.
        kind: its kind; empty where the slot has a single form.
        meaning: the docstring of the class.
        slot_meaning: the docstring of the field that holds it.
        papers: citations of the class or its module.
        module: where the class is written.
        entries: its fields.
    """

    slot: str
    kind: str
    meaning: str
    slot_meaning: str
    papers: tuple[str, ...]
    module: str
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """Slot and kind: ``optimizer.sgd``, ``batch.mixup``, ``ema``."""
        return _join(self.slot, self.kind)


def sections(cls: type[Spec]) -> list[Section]:
    """Every mapping that a spec of this class may hold, outer ones first."""
    found = _sections(cls, "", "", "", "")
    return list({(section.name, section.module): section for section in found}.values())


def _sections(cls: type[Spec], path: str, slot: str, kind: str, slot_meaning: str) -> Iterator[Section]:
    properties = Shape.of(cls)
    entries, inner = [], []
    for name, field in cls.model_fields.items():
        if name == "kind" and kind:
            continue
        node = properties.root["properties"][name]
        held = list(_held(field.annotation))
        values = properties.describe(node) or "anything"
        if any(form == "mapping" for _, form in held):
            values = f"a mapping of dotted names, each with one of {', '.join(_kind(spec) for spec, _ in held)}"
        default = "required"
        if not field.is_required():
            default = _default(field.get_default(call_default_factory=True))
        meaning = _text(field.description)
        entry = Entry(_join(path, name), _join(slot, kind, name), meaning, values, default, papers(meaning))
        entries.append(entry)
        inner += [(entry, *each) for each in held]
    cited = papers(cls.__doc__) or papers(sys.modules[cls.__module__].__doc__)
    yield Section(slot, kind, _text(cls.__doc__), slot_meaning, cited, cls.__module__, tuple(entries))
    for entry, held_cls, form in inner:
        slot = _join(entry.name, NAME if form == "mapping" else "")
        kind = _kind(held_cls)
        yield from _sections(held_cls, _join(slot, kind if form == "list" else ""), slot, kind, entry.meaning)


def _held(annotation: Any, form: str = "one") -> Iterator[tuple[type[Spec], str]]:
    """The spec classes that an annotation allows: each as ``one``, as an entry of a ``list``, or of a ``mapping``."""
    origin = get_origin(annotation)
    form = "list" if origin in (tuple, list) else "mapping" if origin is dict else form
    for inner in get_args(annotation):
        yield from _held(inner, form)
    if origin is None and isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation, form


def _kind(cls: type[Spec]) -> str:
    """The kind of a class that is one of a choice; else empty."""
    field = cls.model_fields.get("kind")
    return str(field.default) if field is not None and len(get_args(field.annotation)) == 1 else ""


def _default(value: Any) -> str:
    if isinstance(value, Spec):
        kind = _kind(type(value))
        return f"kind {kind}" if kind else "its own defaults"
    if isinstance(value, tuple):
        return f"[{', '.join(_default(entry) for entry in value)}]"
    if value == {}:
        return "{}"
    return f"{value:.6g}" if isinstance(value, float) else shown(value)


def _text(text: str | None) -> str:
    return re.sub(r"\bNone\b", "null", " ".join((text or "").split()))


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def papers(docstring: str | None) -> tuple[str, ...]:
    """The citations of a docstring: brackets that hold an arXiv id or a year, and arXiv ids elsewhere."""
    text = _text(docstring)
    cited = _CITATION.findall(text)
    bare = [f"arXiv {found}" for found in re.findall(_ARXIV, text) if not any(found in known for known in cited)]
    return tuple(dict.fromkeys([*cited, *bare]))


def used(cls: type[Spec], data: Mapping[str, Any]) -> set[str]:
    """The full names of the fields (``optimizer.sgd.lr``) and sections (``batch.mixup``) that a file's data gives."""
    return set(_used(cls, data, "", ""))


def _used(cls: type[Spec], data: Mapping[str, Any], path: str, section: str) -> Iterator[str]:
    for name in [name for name in data if name in cls.model_fields and name != "kind"]:
        yield _join(section, name)
        for held, form in _held(cls.model_fields[name].annotation):
            value = data[name]
            whole = isinstance(value, dict) if form == "one" else isinstance(value, dict | list)
            inside = [value] if form == "one" else list(value.values() if isinstance(value, dict) else value or ())
            slot, kind = _join(path, name, NAME if form == "mapping" else ""), _kind(held)
            for each in inside if whole else ():
                if isinstance(each, dict) and each.get("kind", "") == kind:
                    yield _join(slot, kind)
                    yield from _used(held, each, _join(slot, kind if form == "list" else ""), _join(slot, kind))


def dotted_settings(cls: type[Spec], data: Mapping[str, Any]) -> dict[str, Any]:
    """What a file's data sets in another spec: the entries of those mappings whose keys are dotted names."""
    fields = [name for name, field in cls.model_fields.items() if DOTTED in field.metadata]
    return {name: value for field in fields for name, value in (data.get(field) or {}).items()}

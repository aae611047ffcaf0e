"""The reference of every kind of spec, with the shipped files that use each field, and as a page of Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jobs.base import Spec, assign
from jobs.specfile.reference import Entry, Section, dotted_settings, sections, used
from jobs.specfile.yaml import parse

_FEW = 3
_SEE_BELOW = ("a mapping with keys", "a mapping whose kind", "a list, each a mapping", "a mapping of dotted names,")


@dataclass(frozen=True)
class Book:
    """What the reference of one kind of spec is made of.

    Attributes:
        cls: the class of the spec.
        folder: where the shipped files of that kind are.
        heading: heading and first paragraphs of its page.
    """

    cls: type[Spec]
    folder: Path
    heading: str

    @cached_property
    def sections(self) -> list[Section]:
        """Every mapping of the spec."""
        return sections(self.cls)

    @cached_property
    def files(self) -> dict[str, Any]:
        """The data of each shipped file, by its path below the folder without the suffix."""
        found = {}
        for path in sorted(self.folder.rglob("*.yaml")):
            tree, _ = parse(path.read_text(encoding="utf-8"))
            found[path.relative_to(self.folder).with_suffix("").as_posix()] = tree.value if tree else {}
        return found

    def set_by(self, other: Book) -> Iterator[tuple[str, set[str]]]:
        """Files of another kind (searches), each with the full names of what it sets or varies in specs of this one."""
        for name, data in other.files.items():
            changes = dotted_settings(other.cls, data)
            jobs = [job for file, job in self.files.items() if str(data.get("job")).endswith(f"/{file}.yaml")]
            given = used(self.cls, assign(jobs[0] if jobs else {}, changes, self.cls)) if changes else set[str]()
            for section in self.sections:
                entries = {entry.full for entry in section.entries if _within(entry.name, changes)} & given
                if entries:
                    yield name, entries | {section.name}


def _within(name: str, changes: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{change}.") for change in changes)


def users(books: Mapping[str, Book], kind: str) -> dict[str, list[str]]:
    """Full name of a field or section -> the shipped files that use it: those of this kind, then ``search NAME``."""
    book = books[kind]
    pairs = [(name, used(book.cls, data)) for name, data in book.files.items()]
    for title, other in books.items():
        if other is not book:
            pairs += [(f"{title} {name}", names) for name, names in book.set_by(other)]
    found: dict[str, list[str]] = {}
    for name, names in pairs:
        for full in names:
            if name not in found.setdefault(full, []):
                found[full].append(name)
    return found


def in_few_words(names: Iterable[str]) -> str:
    """Names of files; those of a folder that has more than a few are counted."""
    names = list(dict.fromkeys(names))
    folders = Counter(name.rpartition("/")[0] for name in names)
    many = {folder: count for folder, count in folders.items() if folder and count > _FEW}
    words = [name for name in names if name.rpartition("/")[0] not in many]
    return ", ".join([*words, *(f"{count} of {folder}/" for folder, count in sorted(many.items()))])


def markdown(books: Mapping[str, Book], kind: str) -> str:
    """The page of one kind of spec."""
    book, used_by = books[kind], users(books, kind)
    lines = [book.heading.strip(), "", *_table(book.sections[0].entries, used_by)]
    for slot in dict.fromkeys(section.slot for section in book.sections[1:]):
        members = [section for section in book.sections if section.slot == slot]
        lines += ["", f"## `{slot}`", "", _linked(members[0].slot_meaning or members[0].meaning)]
        if len(members) == 1:
            lines += ["", *_about(members[0], used_by), *_table(members[0].entries, used_by)]
            continue
        common = _common(members)
        lines += ["", f"Kinds: {', '.join(f'[{member.kind}](#{_anchor(member.name)})' for member in members)}."]
        lines += ["", "Fields of every kind:", "", *_table(common, used_by, members)] if common else []
        for member in members:
            own = [entry for entry in member.entries if not any(entry.same(other) for other in common)]
            lines += ["", f"### `{member.name}`", "", *_about(member, used_by), *(_table(own, used_by) if own else [])]
            lines += [] if own else ["No fields of its own."]
    return "\n".join(lines) + "\n"


def _about(section: Section, used_by: Mapping[str, list[str]]) -> list[str]:
    words = [] if section.meaning == section.slot_meaning else [section.meaning]
    words += [f"Paper: {'; '.join(section.papers)}."] if section.papers else []
    words += [f"Used by: {in_few_words(used_by[section.name])}."] if section.kind and section.name in used_by else []
    return [line for word in words for line in (_linked(word), "")]


def _common(members: list[Section]) -> list[Entry]:
    """The fields that every kind of a slot has, as most of them have it; a kind that differs lists it again."""
    found = [
        [entry for member in members for entry in member.entries if entry.name == first.name]
        for first in members[0].entries
    ]
    return [max(alike, key=lambda one: sum(map(one.same, alike))) for alike in found if len(alike) == len(members)]


def _table(entries: Iterable[Entry], used_by: Mapping[str, list[str]], members: Iterable[Section] = ()) -> list[str]:
    lines = ["| field | meaning | values | default | used by |", "|---|---|---|---|---|"]
    for entry in entries:
        fulls = [other.full for member in members for other in member.entries if entry.same(other)] or [entry.full]
        who = in_few_words(sorted(name for full in fulls for name in used_by.get(full, ())))
        values = "see below" if entry.values.startswith(_SEE_BELOW) else entry.values
        default = entry.default if entry.default == "required" else f"`{entry.default}`"
        cells = (f"`{entry.name}`", _linked(entry.meaning), values, default, who)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _linked(text: str) -> str:
    text = re.sub(r"(?:arXiv )?\b(\d{4}\.\d{4,5})\b", r"[arXiv \1](https://arxiv.org/abs/\1)", text)
    return text.replace("``", "`")


def _anchor(name: str) -> str:
    return name.replace(".", "").lower()

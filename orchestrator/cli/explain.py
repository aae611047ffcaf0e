"""``orchestrator explain``: what a field or a kind of a spec means, in a few lines."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from jobs.specfile.pages import Book, in_few_words, markdown, users
from jobs.specfile.reference import NAME, Entry, Section
from jobs.words import any_of, nearest
from orchestrator.cli.console import BAD_SPEC, fail, out

Lines = Iterator[tuple[str, str]]


def register(app: typer.Typer, books: Mapping[str, Book]) -> None:
    """Add the command."""

    @app.command()
    def explain(
        name: Annotated[
            str | None, typer.Argument(help="A field (batch.mixup.alpha), a kind (searcher.tpe) or a slot (optimizer).")
        ] = None,
        page: Annotated[
            str | None,
            typer.Option("--markdown", metavar=" or ".join(books), help="Print the whole reference instead."),
        ] = None,
    ) -> None:
        """Say what a field or a kind of a spec means, its default, range and paper, and which recipes use it."""
        if page is not None:
            if page not in books:
                fail(f"there is no reference called {page}; there is {any_of(list(books))}", BAD_SPEC)
            print(markdown(books, page), end="")
            return
        found = [lines for kind in books if (lines := list(_explained(books, kind, (name or "").strip("."))))]
        if not found:
            fail(f"there is no {name}; {_suggestion(books, str(name))}", BAD_SPEC)
        for lines in found:
            grid = Table.grid(padding=(0, 2, 0, 0))
            for label, text in lines:
                grid.add_row(Text(label), Text(text.replace("``", "")))
            out.print(grid)


def _short(name: str) -> str:
    return name.replace(f".{NAME}", "")


def _explained(books: Mapping[str, Book], kind: str, name: str) -> Lines:
    """The lines about the field, the kind or the slot of that name in one kind of spec."""
    book, used_by = books[kind], users(books, kind)
    pairs = [(section, entry) for section in book.sections for entry in section.entries]
    fields = [(section, entry) for section, entry in pairs if name in (_short(entry.name), _short(entry.full)) and name]
    fields.sort(key=lambda pair: (pair[1].meaning, pair[1].values, pair[1].default))
    for _, alike in groupby(fields, key=lambda pair: (pair[1].meaning, pair[1].values, pair[1].default)):
        yield from _field(list(alike), used_by)
    kinds = [section for section in book.sections if _short(section.slot) == _short(name) and section.kind]
    for section in kinds:
        yield "kind", f"{section.kind}: {section.meaning.partition('. ')[0].removesuffix('.')}"
    for section in book.sections:
        if _short(section.name) == _short(name):
            yield from _section(section, kind, used_by)


def _field(alike: list[tuple[Section, Entry]], used_by: Mapping[str, list[str]]) -> Lines:
    section, entry = alike[0]
    kinds = [section.kind for section, _ in alike if section.kind]
    of = f" (of kind {', '.join(kinds)})" if kinds and entry.name.count(".") == section.slot.count(".") + 1 else ""
    yield "field", f"{entry.name}{of}"
    yield "meaning", entry.meaning
    yield "values", entry.values
    yield "default", entry.default
    if cited := entry.papers or (section.papers if len(alike) == 1 else ()):
        yield "paper", "; ".join(cited)
    if who := in_few_words(sorted(name for _, each in alike for name in used_by.get(each.full, ()))):
        yield "used by", who


def _section(section: Section, title: str, used_by: Mapping[str, list[str]]) -> Lines:
    if section.kind or not section.slot:
        yield ("kind", section.name) if section.kind else ("spec", title)
        yield "meaning", section.meaning
        if section.papers:
            yield "paper", "; ".join(section.papers)
        if who := in_few_words(used_by.get(section.name, ())):
            yield "used by", who
    for entry in section.entries:
        default = entry.default if entry.default == "required" else f"default {entry.default}"
        yield "field", f"{entry.key}: {entry.values}; {default}"


def _suggestion(books: Mapping[str, Book], name: str) -> str:
    every = [each for book in books.values() for section in book.sections for each in _names(section)]
    last = name.rpartition(".")[2]
    found = [each for each in every if each.rpartition(".")[2] == last] or nearest(name, every, 4, 0.7)
    if not found:
        near = nearest(last, {each.rpartition(".")[2] for each in every}, 1, 0.6)
        found = [each for each in every if near and each.rpartition(".")[2] == near[0]]
    found = list(dict.fromkeys(found))[:4]
    return f"did you mean {any_of(found)}?" if found else "orchestrator explain lists what there is"


def _names(section: Section) -> list[str]:
    return [_short(each) for each in (section.name, *(entry.name for entry in section.entries)) if each]

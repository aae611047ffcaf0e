"""What init says on the terminal: what was found, what is wrong, what was chosen, what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jobs.names import printable
from jobs.specfile import inline
from orchestrator.init.choose import Recipe
from orchestrator.init.facts import Survey

_CLASSES = 6


def show(out: Console, found: Survey, recipe: Recipe, notes: list[str], following: list[tuple[str, str]]) -> None:
    """Print the summary.

    Args:
        out: where.
        found: the images.
        recipe: what was chosen.
        notes: what a person should know besides.
        following: the next commands, and what each is for.
    """
    out.print(_section("Found", _found(found)))
    told = list(_wrong(found, notes))
    out.print(_section("To know", Group(*told) if told else Text("nothing is wrong")))
    out.print(_section("Chosen", _chosen(recipe)))
    next_ = _grid()
    for command, why in following:
        next_.add_row(Text(command, style="bold"), Text(why))
    out.print(_section("Next", next_))


def _found(found: Survey) -> RenderableType:
    look, grid = found.look, _grid()
    order = sorted(range(len(found.classes)), key=lambda label: -found.counts[label])
    shown = [f"{printable(found.classes[label])} {found.counts[label]:,}" for label in order]
    if len(shown) > _CLASSES:
        half = _CLASSES // 2
        shown = [*shown[:half], "...", *shown[-half:]]
    grid.add_row("classes", Text(f"{len(found.classes)}: {', '.join(shown)}"))
    parts = ", ".join(f"{found.parts[split]:,} {split}" for split in ("train", "val", "test"))
    drawn = f" ({' and '.join(found.drawn)} drawn from train, every class alike)" if found.drawn else ""
    grid.add_row("images", Text(f"{look.count:,}: {parts}{drawn}"))
    low, high = look.sizes.min(0).tolist(), look.sizes.max(0).tolist()
    span = "all of them" if low == high and found.one_size else f"median; {low[1]}x{low[0]} to {high[1]}x{high[0]}"
    grid.add_row("pixels", Text(f"{found.size}{' (shorter side)' if not found.one_size else ''}, {span}"))
    return grid


def _wrong(found: Survey, notes: list[str]) -> Iterator[RenderableType]:
    for finding in found.findings:
        mark = Text("! ", style="bold red") if finding.grave else Text("- ", style="yellow")
        line = Table.grid()
        line.add_column(width=2)
        line.add_column(overflow="fold")
        text = Text(printable(finding.what), style="bold" if finding.grave else "")
        line.add_row(mark, text)
        for example in finding.examples:
            line.add_row("", Text(printable(example), style="dim", overflow="fold"))
        if finding.cure:
            line.add_row("", Text(f"-> {finding.cure}", style="green"))
        yield line
    for note in notes:
        yield Text(f"- {printable(note)}")


def _chosen(recipe: Recipe) -> RenderableType:
    """A line a decision: name, value, reason."""
    grid = _grid()
    grid.add_column(ratio=1)
    for name, why in recipe.why.items():
        grid.add_row(name.rpartition(".")[2], Text(_value(recipe.data, name), overflow="fold"), Text(why, style="dim"))
    return grid


def _value(data: Any, name: str) -> str:
    """What a field is, in a few words."""
    for part in name.split("."):
        data = next(entry for entry in data if entry["kind"] == part) if isinstance(data, list) else data[part]
    if isinstance(data, list):
        return ", ".join(entry["kind"] for entry in data)
    if not isinstance(data, dict):
        return inline(data)
    plain = [f"{key} {inline(value)}" for key, value in data.items() if key != "kind" and not isinstance(value, dict)]
    return plain[0] if plain else "on"


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    return grid


def _section(title: str, inside: RenderableType) -> Group:
    return Group(Text(title, style="bold underline"), Padding(inside, (0, 0, 1, 2)))

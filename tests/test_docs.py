"""The pages: their links lead somewhere, the index has them all, and the commands that they show exist."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "deploy" / "mlflow" / "README.md"]
each = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link, _ in links if link and not (page.parent / link).exists()] == []


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"({name})" not in index} == set()


@cache
def commands() -> set[str]:
    """Every command: ``train``, ``search launch``, ..."""
    code = """
import typer
from orchestrator import __main__ as entry
typer.Typer.__call__ = lambda app, **_: print(*names(typer.main.get_command(app)), sep="\\n")
def names(group, above=""):
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        yield from names(command, f"{above}{name} ") if inner else [above + name]
entry.main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


@each
def test_the_commands_on_it_exist(page: Path) -> None:
    known = commands()
    groups = {name.split()[0] for name in known if " " in name}
    shown = re.findall(r"^ {4}orchestrator +([a-z]+)(?: +([a-z-]+))?", page.read_text(encoding="utf-8"), re.MULTILINE)
    names = {f"{first} {second}" if first in groups else first for first, second in shown}
    assert names - known == set()

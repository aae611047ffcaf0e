"""``orchestrator explain`` and the pages that it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from jobs.specfile.pages import markdown
from orchestrator.__main__ import BOOKS
from orchestrator.cli import explain

ROOT = Path(__file__).parents[2]


def ran(*words: str, code: int = 0) -> str:
    app = typer.Typer()
    app.command("other")(print)  # so that explain is a command among others
    explain.register(app, BOOKS)
    result = CliRunner().invoke(app, ["explain", *words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(("kind", "page"), [("job", "spec.md"), ("search", "search.md")])
def test_the_pages_are_current(kind: str, page: str) -> None:
    assert (ROOT / "docs" / page).read_text() == markdown(BOOKS, kind), f"docs/{page} is stale: run make reference"


def test_a_field() -> None:
    told = ran("batch.mixup.alpha")
    for words in ("0.2", "a number >= 0.0001", "arXiv 1710.09412", "cifar10/mixup", "search digits"):
        assert words in told
    assert len(told.splitlines()) == 6


def test_kinds_slots_and_fields_that_hold_fields() -> None:
    assert "arXiv 1710.09412" in ran("batch.mixup") and "off_epochs: an integer >= 0; default 0" in ran("batch.mixup")
    assert "arXiv 1807.01774" in ran("searcher.tpe") and "startup_trials" in ran("searcher.tpe")
    assert "sgd: Stochastic gradient descent" in ran("optimizer")
    assert "of kind sgd, adam, adamw" in ran("optimizer.lr") and "of kind" not in ran("optimizer.sgd.lr").split("\n")[1]
    assert "decay: a number > 0 and < 1; default 0.999" in ran("ema")
    assert "Seeds of the run" in ran("seed") and "Seed of the searcher" in ran("seed")
    assert "low: a number > 0; required" in ran("space.loguniform")
    assert "batch_size: an integer > 0; required" in ran() and "searcher: a mapping whose kind" in ran()


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("batch.mixup.alhpa", "batch.mixup.alpha"),
        ("alpha", "batch.mixup.alpha or batch.cutmix.alpha?"),
        ("tpe", "searcher.tpe"),
        ("optimizer.momentun", "optimizer.momentum"),
        ("qqqq", "orchestrator explain lists"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(wrong: str, meant: str) -> None:
    assert meant in ran(wrong, code=2)


def test_a_page_that_is_not_there() -> None:
    assert ran("--markdown", "search").startswith("# The spec of a search")
    ran("--markdown", "jobs", code=2)

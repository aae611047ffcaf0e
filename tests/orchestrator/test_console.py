"""What all commands share: exit codes, the version, and searches at a glance."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from jobs.lock import Locked
from orchestrator.cli.console import commands, echo, warn
from orchestrator.cli.jobs import build
from orchestrator.runs.origin import release
from tests.orchestrator.real import job
from tuning import cli as searches
from tuning.run.history import FILE, History
from tuning.spec.search import SearchSpec


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("epochs 0"), 2),
        (ConnectionError("no server"), 1),
        (Locked("run race is running already"), 1),
        (KeyboardInterrupt(), 130),
        (typer.Exit(7), 7),
    ],
)
def test_errors_become_exit_codes_also_in_groups_of_groups(error: BaseException, code: int) -> None:
    app, group = commands(), commands("group")
    app.add_typer(group, name="group")

    @group.command()
    def fails() -> None:
        raise error

    @group.command()
    def works() -> None: ...

    done = CliRunner().invoke(app, ["group", "fails"])
    assert done.exit_code == code
    assert str(error) in done.stderr or code in (7, 130)


def test_what_is_printed_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    echo("run \x1b[31mred\udcff\nnext")
    warn("\x1b[31m")
    assert capsys.readouterr() == ("run \\x1b[31mred\\udcff\nnext\n", "\\x1b[31m\n")


def test_the_version_is_printed_without_a_command() -> None:
    done = CliRunner().invoke(build({}), ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"orchestrator {release()}\n")


def test_searches_are_listed_with_their_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    spec = SearchSpec.model_validate(
        {
            "name": "s",
            "job": "x.yaml",
            "space": {"optimizer.lr": {"kind": "choice", "values": [1]}},
            "budget": {"trials": 4},
        }
    )
    folder = tmp_path / "runs" / "search-1"
    folder.mkdir(parents=True)
    history = History(folder)
    history.add("search", spec=spec.model_dump(mode="json"), base=job().model_dump(mode="json"))
    running = CliRunner().invoke(searches.search, ["list"])
    assert running.exit_code == 0 and "search-1" in running.stdout and "running (pid" in running.stdout
    history.close()
    stopped = CliRunner().invoke(searches.search, ["list"])
    assert "stopped" in stopped.stdout and "0/4" in stopped.stdout
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / FILE).write_text("x\n" + (folder / FILE).read_text())
    assert "unreadable" in CliRunner().invoke(searches.search, ["list"]).stdout

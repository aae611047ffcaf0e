"""What other users of the machine find in a home: nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import jobs.home
from orchestrator.tracking.mlflow import Shipper
from tests.orchestrator.test_runs import run
from tests.strangers import as_stranger, readable


@pytest.mark.parametrize("before", [False, True])
def test_a_home_that_is_open_to_others_holds_nothing_for_them(
    open_home: Path, before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """``before``: an earlier version left open folders and an open database in it."""
    home = open_home
    home.mkdir()
    home.chmod(0o755)
    outside = home.parent / "datasets"
    outside.mkdir(mode=0o755)
    (home / "data").symlink_to(outside)
    if before:
        for name in ("runs", "cache"):
            (home / name).mkdir(mode=0o755)
        (home / "mlflow.db").touch(mode=0o644)
    mask = os.umask(0o022)
    try:
        recorder = run("done", None)
        (recorder.folder / "spec.yaml").write_text("name: done")
        recorder.artifact("spec.yaml")
        recorder.end("FINISHED")
        recorder.close()
        Shipper(recorder.folder).ship()
    finally:
        os.umask(mask)
    assert {path.name for path in home.iterdir()} == {*jobs.home.FOLDERS, "mlflow.db", "mlflow.db.lock"}
    for path in home.iterdir():
        if not path.is_symlink():
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755, "what a link leads to is not ours to close"
    assert caplog.text.count("was open to other users") == (2 if before else 0)
    as_stranger(lambda: _nothing(home))


def _nothing(home: Path) -> None:
    assert readable(home) == [home, home / "data"], "its names, and what a link leads to"


def test_a_home_that_cannot_be_written_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert jobs.home.home() == tmp_path and not list(tmp_path.iterdir())

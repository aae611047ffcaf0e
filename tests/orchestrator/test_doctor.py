"""The doctor names what is wrong with its cure."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from orchestrator.doctor import local
from orchestrator.doctor.finding import Finding
from tests.orchestrator.real import orchestrator


def one(found: local.Found) -> Finding:
    assert isinstance(found, Finding)
    return found


def test_all_checks_are_told_and_a_problem_exits_1(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "none"))
    done = orchestrator("doctor")
    assert "Traceback" not in done.stderr
    problems = re.search(r"^problem ", done.stdout, re.MULTILINE)  # of the machine at hand, which may have some
    assert done.returncode == (1 if problems else 0), done.stdout + done.stderr
    for check in ("python", "torch", "ray", "disk, home", "/dev/shm", "open files", "home", "MLflow", "Ray's token"):
        assert f" {check} " in done.stdout, check


def test_a_token_for_everybody_exits_1_with_the_cure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir(mode=0o700)
    (home / "token").write_text("1")
    (home / "token").chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
    done = orchestrator("doctor")
    assert done.returncode == 1
    assert re.search(r"^problem +Ray's token ", done.stdout, re.MULTILINE)
    assert "chmod 600" in done.stdout


def test_a_home_or_token_that_others_can_read(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(local.own_home()).level == "ok"
    home.chmod(0o755)
    found = one(local.own_home())
    assert (found.level, found.cure) == ("warning", f"chmod 700 {home}")
    token = tmp_path / "token"
    token.write_text("1")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    found = one(local.token())
    assert (found.level, found.cure) == ("problem", f"chmod 600 {token}")
    token.chmod(0o600)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert one(local.token()).level == "ok"


@pytest.mark.slow
def test_a_tracking_server_that_is_silent_and_a_database_of_another_version(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hush@127.0.0.1:9")
    found = one(local.tracking())
    assert found.level == "problem" and "does not answer" in found.text and "hush" not in found.text
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert one(local.tracking()).level == "ok"
    home.mkdir(exist_ok=True)
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("create table alembic_version (version_num varchar(32))")
        database.execute("insert into alembic_version values ('0000000000aa')")
    found = one(local.tracking())
    assert found.level == "problem" and "mlflow db upgrade" in found.cure


def test_other_versions_than_those_that_were_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.constraints()["ray"]
    monkeypatch.setattr(local, "version", lambda name: "0.1")
    assert {finding.level for finding in local.packages()} == {"warning"}


def test_a_check_that_breaks_hides_no_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise OSError("no such luck")

    monkeypatch.setattr(local, "HERE", (broken, local.python))
    first, second = local.examine()
    assert (first.level, first.text, second.check) == ("problem", "OSError: no such luck", "python")

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An ORCHESTRATOR_HOME of the test's own."""
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    level = logging.getLogger("alembic").level
    yield tmp_path / "home"
    logging.getLogger("alembic").setLevel(level)


@pytest.fixture
def open_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home to be, where all users of the machine can go."""
    top = Path(tempfile.mkdtemp(dir="/tmp"))
    top.chmod(0o755)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(top / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield top / "home"
    shutil.rmtree(top)


@pytest.fixture(scope="session")
def finished_run(cluster: str) -> str:
    """A run of digits that is trained, in seconds, and kept for the whole test run; leave it as it is."""
    from orchestrator.execution import launch
    from tests.orchestrator.real import job

    result = launch.train(job("epochs=4", "name=finished"))
    assert result.status == "FINISHED"
    return result.run

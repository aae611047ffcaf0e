"""Follows CONTRIBUTING.md to the letter, on a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def test_a_batch_trick_is_one_file_two_lines_and_one_test(tmp_path: Path) -> None:
    for name in ("jobs", "orchestrator", "tuning", "tests", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    page = (ROOT / "CONTRIBUTING.md").read_text()
    files = re.findall(r"^`([\w/.]+\.py)`:\n\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [path for path, _ in files] == ["jobs/batch/noise.py", "tests/jobs/batch/test_noise.py"]
    for path, text in files:
        (tmp_path / path).write_text(text)
    (diff,) = re.findall(r"^```diff\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    added, taken, put = diff.splitlines()
    target = tmp_path / "jobs/batch/__init__.py"
    text = target.read_text()
    assert text.count(taken[1:]) == 1
    text = text.replace(taken[1:], put[1:])
    target.write_text(text.replace("from jobs.batch.random_erasing", f"{added[1:]}\nfrom jobs.batch.random_erasing"))

    environment = os.environ | {"PYTHONPATH": str(tmp_path), "ORCHESTRATOR_HOME": str(tmp_path / "home")}

    def python(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python("-m", "ruff", "check", "jobs/batch", "tests/jobs/batch/test_noise.py")
    python("-m", "ruff", "format", "--check", "jobs/batch", "tests/jobs/batch/test_noise.py")
    tested = python(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/contracts/test_batch.py",
        "tests/jobs/batch/test_noise.py",
    )
    assert "noise" in python("-m", "orchestrator", "schema", "job") and " passed" in tested
    trained = python("-m", "jobs.train", "jobs/recipes/digits.yaml", "-s", "epochs=2", "-s", "batch.noise.std=0.2")
    assert "epoch 2" in trained

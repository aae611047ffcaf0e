"""Follows CONTRIBUTING.md literally, on a copy of the tree."""

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
BLOCK = re.compile(r"^`([\w/.]+)`:\n\n```(python|diff)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def patched(text: str, diff: str) -> str:
    """The text with every hunk of a diff applied; what a hunk replaces occurs once."""
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines()
        old, new = ("\n".join(line[1:] for line in lines if line[0] in marks) for marks in (" -", " +"))
        assert text.count(old) == 1, hunk
        text = text.replace(old, new)
    return text


def test_a_trick_a_model_family_a_metric_and_a_command_touch_three_files_each(tmp_path: Path) -> None:
    for name in ("jobs", "orchestrator", "tuning", "tests", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ") if part.startswith("Add a")}
    assert [len(BLOCK.findall(part)) for part in sections.values()] == [3, 3, 3, 3], list(sections)
    written = []
    for path, kind, text in (block for part in sections.values() for block in BLOCK.findall(part)):
        file = tmp_path / path
        assert file.exists() == (kind == "diff"), path
        file.write_text(patched(file.read_text(encoding="utf-8"), text) if kind == "diff" else text, encoding="utf-8")
        written.append(path)
    assert len(set(written)) == 12

    environment = os.environ | {"PYTHONPATH": str(tmp_path), "ORCHESTRATOR_HOME": str(tmp_path / "home")}

    def python(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python("-m", "ruff", "check", *written)
    python("-m", "ruff", "format", "--check", *written)
    tests = [path for path in written if path.startswith("tests/")]
    contracts = [f"tests/contracts/test_{slot}.py" for slot in ("batch", "models", "metrics")]
    added = "noise or allcnn or brier or classes"
    tested = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", added, *tests, *contracts)
    assert " passed" in tested
    assert "noise" in python("-m", "orchestrator", "schema", "job")
    assert "Bishop" in python("-m", "orchestrator", "explain", "batch.noise")
    assert "classes" in python("-m", "orchestrator", "--help")
    changes = ("epochs=2", "batch.noise.std=0.2", "model={kind: allcnn, width: 4}")
    trained = python("-m", "jobs.train", "jobs/recipes/digits.yaml", *(word for c in changes for word in ("-s", c)))
    assert "epoch 2" in trained
    known = python("-c", "from tuning.spec.objective import METRICS; print(METRICS['val/brier'])")
    assert known.strip() == "min"

"""The contract against import cycles finds the ones that hide in functions and behind TYPE_CHECKING."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.orchestrator.real import ROOT

SETTINGS = """
[tool.importlinter]
root_packages = ["house"]
contract_types = ["acyclic: tests.acyclic.Acyclic"]
[[tool.importlinter.contracts]]
name = "No cycle"
type = "acyclic"
"""


def lint(folder: Path, **modules: str) -> subprocess.CompletedProcess[str]:
    (folder / "house").mkdir()
    (folder / "house/__init__.py").touch()
    for name, text in modules.items():
        (folder / f"house/{name}.py").write_text(text)
    (folder / "pyproject.toml").write_text(SETTINGS)
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "COLUMNS": "200"}
    return subprocess.run(
        [*command, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_deferred_and_type_only_imports_count(tmp_path: Path) -> None:
    done = lint(
        tmp_path,
        roof="def build():\n    from house import wall\n",
        wall="from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from house.floor import Floor\n",
        floor="import house.roof\n\n\nclass Floor: ...\n",
        garden="import house.roof\n",
    )
    assert done.returncode == 1
    assert "house.floor -> house.roof -> house.wall -> house.floor" in done.stdout, done.stdout + done.stderr
    assert "garden" not in done.stdout


def test_imports_in_one_direction_pass(tmp_path: Path) -> None:
    done = lint(tmp_path, roof="import house.wall\n", wall="import house.floor\n", floor="")
    assert done.returncode == 0, done.stdout + done.stderr

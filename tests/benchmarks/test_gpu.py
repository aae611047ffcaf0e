"""What is to run on a GPU, rehearsed on a CPU at the smallest sizes; where there is a GPU, the core of it there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import correct, full, page, runner, wait
from benchmarks.gpu.cell import Setting
from benchmarks.gpu.rows import FILE, Rows, read

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ALONE = ("correct", "wait", "again", "fast", "feed")
"""Stages that need ``jobs`` and no Ray."""
gpu = pytest.mark.gpu


def rehearsed(folder: Path, *words: str) -> list[dict]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "-o",
        str(folder),
        "--device",
        "cpu",
        "--quick",
        "--minutes",
        "30",
    ]
    done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return read(folder)


def test_a_cell_that_raises_dies_or_hangs_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    setting = Setting("cpu", False, tmp_path)
    assert runner.run("tests.benchmarks.broken", Rows(setting), 300)
    rows = {row["cell"]: row for row in read(tmp_path)}
    assert list(rows) == ["first", "raises", "poisons", "dies", "hangs", "last"]
    assert rows["raises"]["error"] == "ValueError: no"
    assert rows["raises"]["at"].startswith("tests/benchmarks/broken.py:")
    assert rows["poisons"]["error"].startswith("RuntimeError: CUDA error")
    assert rows["dies"]["error"].startswith("the process ended with -9")
    assert rows["hangs"]["error"] == "did not end within 2 s"
    assert rows["first"]["ok"] and rows["last"]["ok"] and rows["first"]["pid"] != rows["last"]["pid"]
    assert all({"card", "driver", "torch", "cuda", "python", "date", "seconds"} <= row.keys() for row in rows.values())
    assert runner.run("tests.benchmarks.broken", Rows(setting), 0)  # nothing is left
    assert len(read(tmp_path)) == 6
    assert Rows(setting, retry=True).done("broken") == {"first", "last"}
    assert Rows(Setting("cuda", False, tmp_path)).done("broken") == set()


def test_what_a_session_had_no_time_for_is_left_for_the_next(tmp_path: Path) -> None:
    assert not runner.run("tests.benchmarks.broken", Rows(Setting("cpu", True, tmp_path)), 0)
    assert read(tmp_path) == []


def test_a_line_that_was_cut_short_counts_as_none(tmp_path: Path) -> None:
    rows = Rows(Setting("cpu", True, tmp_path))
    rows.add("correct", "one", 1.0, {"ok": True})
    with (tmp_path / FILE).open("a") as file:
        file.write('{"stage": "correct", "ce')
    rows.add("correct", "two", 1.0, {"ok": True})
    assert [row["cell"] for row in read(tmp_path)] == ["one", "two"]


def test_stages_of_the_loop_alone_are_rehearsed_and_then_passed_over(tmp_path: Path) -> None:
    only = [word for name in ALONE for word in ("--only", name)]
    rows = rehearsed(tmp_path, *only)
    assert {row["stage"] for row in rows} == set(ALONE)
    assert not [row for row in rows if row.get("ok") is False or "error" in row]
    assert rehearsed(tmp_path, *only) == rows


def test_they_import_neither_ray_nor_mlflow_nor_a_terminal(tmp_path: Path) -> None:
    modules = ", ".join(f"benchmarks.gpu.{name}" for name in (*ALONE, "full", "child", "__main__"))
    code = f"import sys, {modules}; print(sorted({{'ray', 'mlflow', 'typer', 'rich'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_full_length_needs_its_images_and_pairs_its_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIFAR10_PARQUET", raising=False)
    (cell,) = full.cells(Setting("cuda", False, tmp_path))
    assert cell.act(Setting("cuda", False, tmp_path)) == {"ok": None, "note": full.MISSING}
    monkeypatch.setenv("CIFAR10_PARQUET", str(tmp_path))
    (tmp_path / "train.parquet").touch()
    names = [cell.name for cell in full.cells(Setting("cuda", False, tmp_path))]
    assert names[:2] == ["teacher", "baseline, seed 0"] and len(names) == 1 + 3 * len(
        full.arms(Setting("cuda", False, tmp_path))
    )
    spec = full.spec_of("warmup", 2, Setting("cuda", False, tmp_path))
    assert (spec.epochs, spec.seed.init, spec.seed.data, spec.data.test_fraction) == (60, 2, 2, 0.1)


def test_a_run_at_full_length_is_a_row_and_the_page_compares_pairs(tmp_path: Path) -> None:
    (row,) = rehearsed(tmp_path, "--only", "full", "--cell", "baseline")
    assert row["epochs"] == 2 and 0 <= row["top1"] <= 1
    for arm, gain in (("baseline", 0.0), ("cosine", 0.01)):
        for seed in range(3):
            told = {**row, "device": "cuda", "quick": False, "cell": f"{arm}, seed {seed}", "arm": arm, "seed": seed}
            with (tmp_path / FILE).open("a") as file:
                file.write(json.dumps({**told, "top1": 0.9 + seed / 1000 + gain * (1 + seed / 100)}) + "\n")
    text = page.text(tmp_path)
    assert "| cosine | +1.01 |" in text
    assert f"torch {row['torch']}" in text
    assert page.NOTHING not in text and "Several GPUs" in text


def test_the_page_is_of_the_rows_beside_it() -> None:
    assert (ROOT / "docs" / "gpu.md").read_text() == page.text(ROOT / "docs")


def test_on_ray_a_job_is_timed_from_the_command_on(tmp_path: Path) -> None:
    (row,) = rehearsed(tmp_path, "--only", "onray", "--cell", "train")
    assert row["ok"], row
    assert row["s to the first update"] > 0 and len(row["images/s by epoch"]) == 4


@pytest.fixture
def cuda(tmp_path: Path) -> Setting:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return Setting("cuda", True, tmp_path)


@gpu
@pytest.mark.parametrize("cell", [cell.name for cell in correct.cells(Setting("cpu", False, Path()))[:-1]])
def test_gpu_gives_what_the_cpu_gives(cuda: Setting, cell: str) -> None:
    (act,) = (each.act for each in correct.cells(Setting("cuda", False, cuda.folder)) if each.name == cell)
    row = act(cuda)
    assert row["ok"], row


@gpu
def test_gpu_steps_do_not_wait(cuda: Setting) -> None:
    assert wait.strict(cuda)["ok"]
    for path in ("cifar10/baseline.yaml", "cifar10/mixup.yaml", "cifar10/auto_augment.yaml"):
        row = wait.recipe(wait.RECIPES / path, cuda)
        assert row["ok"], row

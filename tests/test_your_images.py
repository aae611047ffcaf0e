"""Runs the commands of docs/your-images.md, as a new user would, on JPEGs of three of CIFAR-10's classes."""

from __future__ import annotations

import csv
import io
import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.orchestrator.real import ROOT, orchestrator

pytestmark = pytest.mark.slow

CLASSES = {0: "airplane", 1: "automobile", 2: "bird"}
IMAGES = 60
SHORTER = {  # what keeps the test short; everything else is as the page has it
    "init": ["--pretrained", "none"],
    "train": ["-s", "epochs=6"],
    "search launch": ["-s", "budget.trials=2", "-s", "budget.epochs_per_trial=9", "-s", "set.epochs=10"],
    "search confirm": ["--top", "1", "--seeds", "3"],
}


@pytest.fixture
def folder(tmp_path: Path, cifar10_parquet: Path) -> Path:
    """A folder that holds my_photos/, as the page shows it."""
    rows = pq.ParquetFile(cifar10_parquet / "train.parquet").iter_batches(1000)
    counts = dict.fromkeys(CLASSES, 0)
    for row in (row for batch in rows for row in batch.to_pylist()):
        name, number = CLASSES.get(row["label"]), counts.get(row["label"], IMAGES)
        if name and number < IMAGES:
            counts[row["label"]] += 1
            (tmp_path / "my_photos" / name).mkdir(parents=True, exist_ok=True)
            picture = Image.open(io.BytesIO(row["image"]["bytes"]))
            picture.save(tmp_path / "my_photos" / name / f"{number:03}.jpg", quality=95)
        if min(counts.values()) == IMAGES:
            break
    return tmp_path


def commands() -> list[str]:
    """The page's commands, in order."""
    return re.findall(r"^    orchestrator (.+)$", (ROOT / "docs" / "your-images.md").read_text(), re.MULTILINE)


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a new user."""
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(folder / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_the_page_from_init_to_promote(folder: Path, home: None, warm: None) -> None:
    run = ""
    done: dict[str, str] = {}
    for command in commands():
        words = shlex.split(command.replace("RUN", run))
        name = " ".join(words[: 2 if words[0] == "search" else 1])
        result = orchestrator(*words, *SHORTER.get(name, []), folder=folder)
        assert result.returncode == 0, f"orchestrator {command}\n{result.stdout}\n{result.stderr}"
        done[name] = result.stdout
        run = re.search(r"^run +(\S+) \(FINISHED", result.stdout, re.MULTILINE)[1] if name == "train" else run
    assert list(done) == [
        *("init", "plan", "train", "search plan", "search launch", "search confirm"),
        *("evaluate", "predict", "export", "promote"),
    ]
    assert "3: airplane 60, automobile 60, bird 60" in done["init"]
    assert "verdict      fits" in done["plan"] and "verdict      fits" in done["search plan"]
    assert "top1" in done["evaluate"] and "is champion" in done["promote"] and "parity" in done["export"]
    with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == IMAGES and {row["class"] for row in rows} <= set(CLASSES.values())
    assert not any(row["error"] for row in rows)

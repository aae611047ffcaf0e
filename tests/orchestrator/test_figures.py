from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jobs.report import Record
from orchestrator.models.figures import Pair, confused_pairs
from orchestrator.runs.figures import confusion_matrix, learning_curves, write
from orchestrator.runs.fonts import LEGEND, lettering

RECORDS = [
    Record(name, epoch, value)
    for epoch, values in ((2, (1.0, 0.8, 0.5, 0.9)), (1, (2.0, 1.8, 0.25, 0.5)), (3, (math.nan, 0.7, 0.75, 1.0)))
    for name, value in zip(("train/loss", "val/loss", "val/top1", "val/top5"), values, strict=True)
] + [Record("lr", 1, 0.1), Record("lr", 2, 0.05), Record("lr", 3, 0.0), Record("test/top1", 3, 0.5)]
MATRIX = [[8, 2, 0], [1, 9, 0], [0, 0, 0]]


def lines(axes) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_curves_are_the_records_in_order_of_epochs():
    loss, top, lr = learning_curves(RECORDS).axes
    train = lines(loss)["train"]
    assert train[0] == [1, 2, 3]
    assert train[1][:2] == [2.0, 1.0]
    assert math.isnan(train[1][2])
    assert lines(loss)["val"] == ([1, 2, 3], [1.8, 0.8, 0.7])
    assert lines(top)["val top-1"] == ([1, 2, 3], [25, 50, 75])
    assert lines(top)["val top-5"] == ([1, 2, 3], [50, 90, 100])
    assert "test top-1 50.00%" in lines(top)
    assert next(iter(lines(lr).values())) == ([1, 2, 3], [0.1, 0.05, 0.0])
    assert lr.get_xlabel() == "epoch"


@pytest.mark.parametrize("records", [[], RECORDS[:1], [Record("lr", 1, 0.1)]])
def test_a_run_with_little_to_show_still_has_a_figure(records, tmp_path):
    assert [path.name for path in write(tmp_path, records, None, ["a", "b"])] == ["learning_curves.png"]


def test_confusion_shows_shares_of_the_true_class_and_names_the_pairs():
    axes = confusion_matrix(MATRIX, ["cat", "dog", "never seen"]).axes[0]
    shares = np.array([[0.8, 0.2, 0], [0.1, 0.9, 0], [0, 0, 0]])
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "80", (1, 0): "20", (0, 1): "10", (1, 1): "90"}
    assert axes.get_title(loc="left") == "85.00% of 20 images right"
    assert axes.get_xlabel().splitlines()[-2:] == ["cat predicted as dog: 2 of 10", "dog predicted as cat: 1 of 10"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "never seen"]


def test_many_or_long_names_stay_legible_and_perfection_is_said():
    many = confusion_matrix(np.eye(100, dtype=np.int64) * 3, [f"class {k}" for k in range(100)]).axes[0]
    assert not many.texts
    assert "class 1" not in [label.get_text() for label in many.get_yticklabels()]
    assert many.get_xlabel().endswith("No class was confused with another.")
    long = confusion_matrix(MATRIX, [f"a class with a very long name, number {k}" for k in range(3)]).axes[0]
    names = [label.get_text() for label in long.get_yticklabels()]
    assert len(set(names)) == 3
    assert max(map(len, names)) == 18


def test_names_that_look_like_formulas_or_are_no_text_are_drawn(tmp_path):
    names = ["under $5_$10", "caf\udce9", "a^b"]
    (path,) = [
        path for path in write(tmp_path, [], [[1, 2, 0], [0, 3, 1], [0, 0, 2]], names) if "confusion" in path.name
    ]
    assert path.stat().st_size > 1000


def missing(caught: pytest.WarningsRecorder) -> list[str]:
    """What matplotlib says of letters that it has no font for."""
    return [str(each.message) for each in caught.list if "missing from font" in str(each.message)]


def test_a_font_is_found_that_has_the_letters(tmp_path, recwarn):
    names = ["bold \U0001d400", "cat", "dog"]
    letters = lettering(tuple(names))
    assert letters.families[0] == "DejaVu Sans" and len(letters.families) == 2 and not letters.notes
    axes = confusion_matrix(MATRIX, names).axes[0]
    assert axes.get_yticklabels()[0].get_fontfamily() == list(letters.families)
    write(tmp_path, [], MATRIX, names)
    assert not missing(recwarn) and not (tmp_path / "figures" / LEGEND).exists()


def test_names_that_no_font_has_are_numbers_with_a_legend(tmp_path, recwarn, monkeypatch):
    from matplotlib.font_manager import fontManager

    own = [font for font in fontManager.ttflist if "DejaVu" in font.name]
    monkeypatch.setattr(fontManager, "ttflist", own)  # whatever fonts this machine has
    names = ["日本語", "cat", "new\nline"]
    lettering.cache_clear()
    [note] = lettering(tuple(names)).notes
    assert note.startswith("no font on this machine has the letters of 1 of 3 class names: figures show their numbers")
    axes = confusion_matrix(MATRIX, names).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 0", "cat", r"new\nline"]
    assert axes.get_xlabel().splitlines()[-2:] == [
        "class 0 predicted as cat: 2 of 10",
        "cat predicted as class 0: 1 of 10",
    ]
    paths = write(tmp_path, [], MATRIX, names)
    pairs = [Pair("日本語", "cat", 2, 5, [np.zeros((8, 8, 1), np.uint8)], [0.9])]
    confused_pairs(pairs, names).savefig(tmp_path / "pairs.png")
    assert (paths[0].parent / LEGEND).read_text(encoding="utf-8") == "0\t日本語\n1\tcat\n2\tnew\\nline\n"
    assert not missing(recwarn)
    lettering.cache_clear()


def test_files_are_pictures_and_pyplot_is_left_alone(tmp_path):
    program = f"""
import sys
from pathlib import Path
from jobs.report import Record
from orchestrator.runs.figures import write
assert "matplotlib" not in sys.modules
write(Path({str(tmp_path)!r}), [Record("val/loss", 1, 2.0), Record("val/loss", 2, 1.0)], {MATRIX}, ["a", "b", "c"])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    for name in ("learning_curves", "confusion_matrix"):
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 600
            assert len(picture.convert("RGB").getcolors(2**20)) > 20

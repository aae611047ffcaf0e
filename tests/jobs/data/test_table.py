import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.data import PathTable
from jobs.paths import absolute
from tests.jobs.data.conftest import fill

FRACTIONS = {"val_fraction": 0.25, "test_fraction": 0.25}


@pytest.fixture
def pictures(tmp_path, digit_pngs):
    """A folder of real digits, and (path from there, class) of each."""
    root = fill(tmp_path / "pictures", digit_pngs)
    paths = sorted(root.rglob("*.png"))
    return root, [(str(path.relative_to(root)), path.parent.name) for path in paths]


def write(path, rows, names=("path", "label"), mark=","):
    path.write_text(
        "\n".join(mark.join(f'"{value}"' for value in row) for row in (names, *rows)) + "\n", encoding="utf-8"
    )
    return str(path)


def sizes(data):
    return len(data.train), len(data.val), len(data.test)


def test_a_csv_is_divided_and_read_from_its_own_folder(pictures):
    root, rows = pictures
    data = PathTable(train=write(root / "all.csv", rows), **FRACTIONS).open()
    assert data.classes == tuple(f"digit {n}" for n in range(10))
    assert sizes(data) == (112, 38, 50)
    assert (data.channels, data.size) == (1, 16)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_marks_between_columns(pictures, mark):
    root, rows = pictures
    data = PathTable(
        train=write(root / ("all.tsv" if mark == "\t" else "all.csv"), rows, mark=mark), **FRACTIONS
    ).open()
    assert sizes(data) == (112, 38, 50)


def test_tables_of_their_own_or_a_column_name_the_splits(pictures):
    root, rows = pictures
    parts = {"train": rows[::2], "val": rows[1::4], "test": rows[3::4]}
    own = PathTable(**{split: write(root / f"{split}.csv", part) for split, part in parts.items()}).open()
    names = {"train": "Training", "val": "valid", "test": "TEST"}
    told = [(*row, names[split]) for split, part in parts.items() for row in part]
    one = write(root / "all.csv", told, ("file", "what", "set"))
    column = PathTable(train=one, path_column="file", label_column="what", split_column="set").open()
    assert sizes(own) == sizes(column) == (100, 50, 50)
    assert own.digest == column.digest


def test_parquet_with_absolute_paths_and_numbers_as_classes(pictures):
    root, rows = pictures
    table = {"path": [str(root / path) for path, _ in rows], "label": [int(name[-1]) + 5 for _, name in rows]}
    pq.write_table(pa.table(table), root.parent / "all.parquet")
    data = PathTable(train=str(root.parent / "all.parquet"), **FRACTIONS).open()
    assert data.classes == tuple(map(str, range(5, 15)))


def test_root_is_where_relative_paths_start(pictures, tmp_path):
    root, rows = pictures
    listed = write(tmp_path / "all.csv", rows)
    assert sizes(PathTable(train=listed, root=str(root), **FRACTIONS).open()) == (112, 38, 50)
    with pytest.raises(ValueError, match=r"200 of 200 images cannot be read:\n .*No such file"):
        PathTable(train=listed, **FRACTIONS).open()


def test_names_with_spaces_commas_and_beyond_ascii(pictures):
    root, rows = pictures
    odd = root / "ünï, цифра"
    odd.mkdir()
    moved = []
    for number, (path, name) in enumerate(rows):
        os.rename(root / path, odd / f"ж {number}.png")
        moved.append((f"ünï, цифра/ж {number}.png", name.replace("digit", "цифра,")))
    assert PathTable(train=write(root / "all.csv", moved), **FRACTIONS).open().classes[0] == "цифра, 0"


def test_what_is_wrong_with_a_table_is_named(pictures):
    root, rows = pictures

    def refused(match, rows=rows, names=("path", "label"), **fields):
        with pytest.raises(ValueError, match=match):
            PathTable(train=write(root / "all.csv", rows, names), **fields).open()

    refused(
        r"no column 'label' \(data.label_column\); it has path, labels; did you mean 'labels'", rows, ("path", "labels")
    )
    refused(r"all.csv row 2 has no 'label'", [rows[0], (rows[1][0], " "), *rows[2:]])
    refused("has no rows", [])
    told = [(*row, "training") for row in rows]
    refused(
        r"row 2: split is 'holdout', not one of train",
        [told[0], (*rows[1], "holdout")],
        ("path", "label", "split"),
        split_column="split",
    )
    refused(
        "says test but never train", [(*row, "test") for row in rows], ("path", "label", "split"), split_column="split"
    )
    refused(
        r"test has 'cat', but train has no such class",
        [*told, (rows[0][0], "cat", "test")],
        ("path", "label", "split"),
        split_column="split",
    )
    (root / "latin.csv").write_bytes("path,label\nä,b\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.csv .*UTF-8"):
        PathTable(train=str(root / "latin.csv")).open()
    with pytest.raises(ValueError, match=r"none.csv is no file; .* has all.csv"):
        PathTable(train=str(root / "none.csv")).open()
    with pytest.raises(ValueError, match="not both"):
        PathTable(train="a.csv", test="b.csv", split_column="split")


def test_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = absolute(PathTable(train="a.csv", test="t/b.csv"))
    assert (made.train, made.test, made.root) == (str(tmp_path / "a.csv"), str(tmp_path / "t/b.csv"), None)
    assert absolute(PathTable(train="a.csv", root=str(Path("/data")))).root == "/data"

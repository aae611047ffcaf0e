import os
import re
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

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
    with pytest.raises(ValueError, match=r"names 200 files, and none is there; .* start at .*; set data.root to the"):
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


ROWS = [(f"{name}/{number}.png", name) for name in ("ant", "bee") for number in range(12)]


def as_text(mark=",", head=("path", "label"), end="\n", form="{}", rows=ROWS):
    return end.join(mark.join(form.format(cell) for cell in row) for row in (head, *rows)) + end


READ = {
    "plain": as_text(),
    "a space after the comma, and quotes": as_text(", ", form='"{}"'),
    "spaces around names": as_text(" , "),
    "a byte order mark": "\ufeff" + as_text(),
    "semicolons, and a comma in the header": as_text(
        ";", ("path", "label", "note, free"), rows=[(*r, "") for r in ROWS]
    ),
    "tabs in a .csv": as_text("\t"),
    "ends of lines of Windows": as_text(end="\r\n"),
    "ends of lines of old Macs": as_text(end="\r"),
    "blank lines": as_text(end="\n\n"),
    "a column twice that is not asked for": as_text(head=("path", "label", "x", "x"), rows=[(*r, 1, 2) for r in ROWS]),
    "an index column without a name": as_text(head=("", "path", "label"), rows=[(7, *r) for r in ROWS]),
    "./ before paths": as_text(rows=[(f"./{path}", name) for path, name in ROWS]),
}
REFUSED = {
    "two columns of one name": (
        as_text(head=("path", "label", "label"), rows=[(*r, 1) for r in ROWS]),
        "2 columns called",
    ),
    "no header": (as_text(head=ROWS[0]), "begins with what looks like an image and its class .*add a first line"),
    "bars": (as_text("|"), "separated by commas, semicolons or tabs"),
    "Windows' paths": (as_text(rows=[(p.replace("/", "\\"), c) for p, c in ROWS]), "written as on Windows"),
    "drives": (as_text(rows=[(f"C:/{p}", c) for p, c in ROWS]), "written as on Windows"),
    "another folder": (as_text(rows=[(f"x/{p}", c) for p, c in ROWS]), "24 files, and none is there.*data.root"),
    "ragged rows": (as_text() + "ant/0.png,ant,3\n", "line 26 has 3 values, but there are 2 columns"),
    "a value with a comma": (as_text(rows=[*ROWS, ("ant/0.png", "x, y")]), "line 26 has 3 .*put quotes around"),
    "an open quote": (as_text() + '"ant/0.png,ant\n', "is a quote missing"),
    "no label": (as_text() + "ant/0.png,\n", "row 25 has no 'label'"),
    "numbers with fractions": (as_text(rows=[(p, "0.5") for p, _ in ROWS]), "labels such as 0.5: .*for each range"),
    "numbers as floats": (as_text(rows=[(p, f"{len(c)}.0") for p, c in ROWS]), "labels such as 3.0: .*whole numbers"),
    "lists": (as_text(";", rows=[(p, f"['{c}', 'x']") for p, c in ROWS]), "an image has one class"),
    "no rows": ("path,label\n", "no rows"),
    "nothing": ("", "has no column 'path'"),
}


@pytest.fixture
def insects(tmp_path):
    """A folder with the images that ROWS names."""
    for number, (path, _) in enumerate(ROWS):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), number).save(tmp_path / path)
    return tmp_path


def test_tables_are_read_as_people_have_them(insects, monkeypatch):
    wanted = PathTable(train=write(insects / "wanted.csv", ROWS)).open().digest
    for what, text in READ.items():
        (insects / "t.csv").write_text(text, newline="", encoding="utf-8")
        assert PathTable(train=str(insects / "t.csv")).open().digest == wanted, what
    for what, (text, words) in REFUSED.items():
        (insects / "t.csv").write_text(text, newline="", encoding="utf-8")
        with pytest.raises(ValueError, match=r".") as caught:
            PathTable(train=str(insects / "t.csv")).open()
        assert re.search(words, str(caught.value), re.DOTALL), f"{what}: {caught.value}"
    (insects / "in").mkdir()
    (insects / "in" / "t.csv").write_text(READ["plain"])
    monkeypatch.chdir(insects)
    with pytest.raises(ValueError, match=f"are there from the current folder: set data.root to {insects}"):
        PathTable(train="in/t.csv").open()
    (insects / "t.csv").write_text(as_text(rows=[*ROWS, ("ant/1.png", "caf\u00e9"), ("ant/2.png", "cafe\u0301")]))
    names, _, _ = PathTable(train=str(insects / "t.csv")).stores()
    assert [ascii(name) for name in names] == ["'ant'", "'bee'", "'cafe\\u0301'"]


def test_columns_of_parquet_hold_text_or_whole_numbers(insects):
    paths = [path for path, _ in ROWS]
    labels = {
        "text": [name for _, name in ROWS],
        "a dictionary": pa.array([name for _, name in ROWS]).dictionary_encode(),
        "numbers with gaps": [3 if name == "ant" else 9 for _, name in ROWS],
    }
    for values in labels.values():
        pq.write_table(pa.table({"path": paths, "label": values}), insects / "t.parquet")
        assert len(PathTable(train=str(insects / "t.parquet")).open().classes) == 2
    wrong = {"double": [1.0, 2.0], "bool": [True, False], "list": [["a"], ["b"]], "timestamp": [datetime.now()] * 2}
    for kind, values in wrong.items():
        pq.write_table(pa.table({"path": paths[:2], "label": values}), insects / "t.parquet")
        with pytest.raises(ValueError, match=f"column 'label' holds {kind}.* labels are text or whole numbers"):
            PathTable(train=str(insects / "t.parquet")).open()
    twice = pa.Table.from_arrays([pa.array(paths), pa.array(paths), pa.array(paths)], ["path", "label", "label"])
    pq.write_table(twice, insects / "t.parquet")
    with pytest.raises(ValueError, match="has 2 columns called 'label'; rename all but one"):
        PathTable(train=str(insects / "t.parquet")).open()

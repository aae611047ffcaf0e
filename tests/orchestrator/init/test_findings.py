"""What init finds in small folders of real images, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from orchestrator.init import look as looking
from orchestrator.init.choose import choose
from orchestrator.init.machine import Machine
from orchestrator.init.source import recognise
from orchestrator.init.start import Start
from orchestrator.init.write import job_text
from tests.orchestrator.init.steps import Make, chosen, looked, said


def test_class_folders(make: Make, tmp_path: Path) -> None:
    found = looked(make("pics", zero=30, one=30, two=40))
    assert found.classes == ("one", "two", "zero") and dict(found.parts) == {"train": 72, "val": 8, "test": 20}
    assert found.drawn == ("val", "test") and found.one_size and not found.colour
    spec = chosen(found, tmp_path)
    assert (spec.data.kind, spec.data.size, spec.data.channels) == ("image_folder", 16, 1)
    assert {split: len(getattr(spec.data.open(), split)) for split in found.parts} == dict(found.parts)


def test_split_folders_are_taken_as_they_are(make: Make, tmp_path: Path) -> None:
    make("pics/train", zero=30, one=30)
    make("pics/val", zero=5, one=5)
    found = looked(make("pics/test", zero=6, one=6).parent)
    assert dict(found.parts) == {"train": 60, "val": 10, "test": 12} and not found.drawn
    assert "val is the test split" not in said(found)
    assert "fraction" not in job_text(tmp_path, found, choose("x", found, Machine(2), Start()), [])


def test_a_val_folder_alone_is_said_to_be_the_test_split(make: Make) -> None:
    make("pics/train", zero=30, one=30)
    found = looked(make("pics/val", zero=5, one=5).parent)
    assert found.parts["test"] == 10 and found.drawn == ("val",)
    assert "val is the test split, and steers nothing" in said(found)


def test_a_table_is_found_by_its_columns(make: Make, tmp_path: Path) -> None:
    root = make("pics/all", zero=20, one=20).parent
    rows = [(path.relative_to(root), path.parent.name) for path in sorted(root.rglob("*.png"))]
    lines = ["File_Name,class,notes", *(f'"{path}",{name},x' for path, name in rows)]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    for path in (root / "labels.csv", root):  # in a folder beside one folder, which would be a single class
        data = chosen(looked(path), tmp_path).data
        assert (data.kind, data.path_column, data.label_column) == ("table", "File_Name", "class")
    (root / "labels.csv").unlink()
    table = {"path": [str(path) for path, _ in rows], "label": [name for _, name in rows]}
    pq.write_table(pa.table({**table, "split": ["train", "test"] * 20}), root / "labels.parquet")
    found = looked(root / "labels.parquet")
    assert dict(found.parts) == {"train": 18, "val": 2, "test": 20} and found.drawn == ("val",)
    assert chosen(found, tmp_path).data.split_column == "split"


def test_class_folders_are_taken_before_a_table(make: Make) -> None:
    root = make("pics", zero=20, one=20)
    (root / "labels.csv").write_text("path,label\nzero/000.png,zero\n")
    source, notes = recognise(root)
    assert source.kind == "image_folder" and "labels.csv was passed over" in notes[0]


def test_odd_sizes_and_kinds_are_counted(make: Make, tmp_path: Path) -> None:
    root = make("pics", zero=30, one=30)
    picture = Image.open(root / "zero" / "000.png")
    picture.resize((100, 40)).convert("CMYK").save(root / "zero" / "cmyk.jpg")
    picture.resize((50, 40)).convert("RGB").quantize(8).save(root / "zero" / "palette.png")
    picture.resize((40, 40)).convert("LA").save(root / "one" / "alpha.png")
    Image.fromarray(np.asarray(picture).astype(np.uint16) * 257).save(root / "one" / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.resize((32, 24)).convert("RGB").save(root / "one" / "turned.jpg", exif=exif)
    text = said(found := looked(root))
    for part in ("62 grey", "1 transparent", "1 palette", "1 CMYK", "1 16-bit"):
        assert part in text
    assert "1 image more than 2 times as long as wide" in text
    assert "EXIF" not in text and [32, 24] in found.look.sizes.tolist(), "height and width as they are when upright"
    assert not found.one_size and found.look.sizes.max() == 100
    spec = chosen(found, tmp_path)
    assert (spec.data.size, spec.data.channels) == (16, 3)
    spec.data.open()


def test_copies_across_splits_are_a_leak_with_names(make: Make) -> None:
    make("pics/train", zero=30, one=30)
    root = make("pics/test", zero=6, one=6).parent
    shutil.copy(root / "train" / "zero" / "003.png", root / "test" / "zero" / "again.png")
    text = said(looked(root))
    assert "! a leak: 1 image in both test and train, byte for byte" in text
    assert f"{root}/test/zero/again.png = {root}/train/zero/003.png" in text
    assert "two classes" not in text


def test_copies_in_two_classes_and_in_one_are_told(make: Make) -> None:
    root = make("pics", zero=30, one=30)
    shutil.copy(root / "zero" / "003.png", root / "one" / "wrong.png")
    shutil.copy(root / "zero" / "004.png", root / "zero" / "again.png")
    text = said(looked(root))
    assert "! 1 image in two classes or more" in text and "wrong.png [one]" in text and "003.png [zero]" in text
    assert "2 images copied from others of the same split" in text and "a leak, once val or test" in text


def test_equal_lengths_alone_make_no_copies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for number in range(20):  # uncompressed, 98 kB: alike in length and up to the last of them
            pixels = np.zeros((150, 218, 3), np.uint8)
            pixels[0, -1] = number * 2 + (name == "b")  # a BMP has its first row last
            Image.fromarray(pixels).save(tmp_path / "pics" / name / f"{number}.bmp")
    assert not looked(tmp_path / "pics").look.copies


def test_broken_files_are_listed_and_so_many_may_be_skipped(make: Make, tmp_path: Path) -> None:
    root = make("pics", zero=30, one=30)
    (root / "zero" / "zero.png").write_bytes(b"")
    (root / "zero" / "text.png").write_text("hello")
    whole = (root / "one" / "000.png").read_bytes()
    (root / "one" / "cut.png").write_bytes(whole[: len(whole) // 2])
    found = looked(root)
    text = said(found)
    assert "! 3 images cannot be read" in text and "zero.png: zero bytes" in text and "text.png: not an image" in text
    assert "cut.png: " in text and "data.max_corrupt" in text
    spec = chosen(found, tmp_path)
    assert spec.data.max_corrupt == 3 and any("skipped 3 images" in note for note in spec.data.open().notes)


def test_large_folders_are_sampled_and_that_is_said(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make("pics", zero=50, one=50)
    monkeypatch.setattr(looking, "HEADERS", 60)
    monkeypatch.setattr(looking, "DECODED", 40)
    found = looked(root)
    text = said(found)
    assert "60 of 100 headers were read" in text and "40 of 100 images were decoded, and all were sound" in text
    for path in sorted(root.rglob("*.png"))[::2]:
        path.write_bytes(path.read_bytes()[:60])
    found = looked(root)
    assert "a sample was decoded" in said(found) and 40 <= found.corrupt <= 60


def test_few_images_are_told_and_too_few_refused(make: Make, tmp_path: Path) -> None:
    found = looked(make("pics", zero=60, one=6))
    assert "few images to learn from: one (6)" in said(found)
    spec = chosen(found, tmp_path)
    data = spec.data.open()
    assert all(len(set(part.labels.tolist())) == 2 for part in (data.train, data.val, data.test))
    with pytest.raises(ValueError, match=r"too few images to have every class in train, val and test: 'one' has 2"):
        looked(make("less", zero=60, one=2))
    with pytest.raises(ValueError, match="one class only, 'zero'"):
        looked(make("single", zero=10))


def test_spaces_unicode_nesting_and_hidden_files(make: Make, tmp_path: Path) -> None:
    root = make("out er/my photos", **{"ünï cört": 20, "ж: [x] # 'y'": 20})
    (root / "ünï cört" / "deep er").mkdir()
    (root / "ünï cört" / "000.png").rename(root / "ünï cört" / "deep er" / "no. 1.png")
    (root / "ünï cört" / ".hidden.png").write_bytes(b"")
    (root / ".cache").mkdir()
    found = looked(root)
    assert found.look.count == 40 and not found.look.errors
    spec = chosen(found, tmp_path)
    assert spec.data.root == str(root)
    source, notes = recognise(root.parent)  # a folder around the one with the classes
    assert source.root == str(root) and "holds nothing but my photos" in notes[0]


def test_folders_of_equal_names_in_class_folders_may_be_the_classes(make: Make) -> None:
    for year in ("2023", "2024"):
        root = make(f"pics/{year}", cat=10, dog=10).parent
    assert looked(root).classes == ("2023", "2024")
    [note] = recognise(root)[1]
    assert "the classes are 2023, 2024" in note and "equal names, cat, dog. If those are the classes" in note
    root.rename(root.with_name("train"))
    make("all/val", **{"2023": 5, "2024": 5})
    (root.with_name("train")).rename(root.with_name("all") / "train")
    assert recognise(root.with_name("all"))[1] == [note]
    for split in ("train", "test"):
        make(f"split/{split}", cat=10, dog=10)
    assert recognise(root.with_name("split"))[1] == []


def test_what_is_no_data_is_refused_with_what_is_there(make: Make, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ValueError, match="neither a folder nor a table"):
        recognise(tmp_path / "x.txt")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="columns a, b, and none that names files"):
        recognise(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="is not a folder"):
        recognise(tmp_path / "none")[0].stores()

from pathlib import Path

import pytest
from PIL import Image

from jobs.data import ImageFolder
from tests.jobs.data.conftest import encoded, fill


def opened(root, **fields):
    return ImageFolder(root=str(root), **{"val_fraction": 0.25, "test_fraction": 0.25, **fields}).open()


def sizes(data):
    return len(data.train), len(data.val), len(data.test)


def test_class_folders_alone_are_divided(tmp_path, digit_pngs):
    data = opened(fill(tmp_path / "all", digit_pngs))
    assert data.classes == tuple(f"digit {n}" for n in range(10))
    assert sizes(data) == (112, 38, 50)
    assert any("no test split" in note for note in data.notes)


def test_test_and_val_folders_are_what_they_say(tmp_path, digit_pngs):
    root = tmp_path / "split"
    fill(root / "train", digit_pngs[:100])
    fill(root / "validation", digit_pngs[100:140])
    fill(root / "test", digit_pngs[140:])
    data = opened(root)
    assert sizes(data) == (100, 40, 60)
    assert data.notes == ()
    assert data.test.labels.tolist() == sorted(int(name[-1]) for name, _ in digit_pngs[140:])


def test_a_lone_val_folder_is_the_test_split(tmp_path, digit_pngs):
    fill(tmp_path / "split" / "train", digit_pngs[:160])
    fill(tmp_path / "split" / "val", digit_pngs[160:])
    data = opened(tmp_path / "split")
    assert sizes(data) == (120, 40, 40)
    assert any("val is the test split" in note and "0.25 of train" in note for note in data.notes)


def test_a_lone_test_folder_leaves_val_to_train(tmp_path, digit_pngs):
    fill(tmp_path / "split" / "train", digit_pngs[:160])
    fill(tmp_path / "split" / "test", digit_pngs[160:])
    assert sizes(opened(tmp_path / "split")) == (120, 40, 40)


def test_a_class_may_be_called_train(tmp_path):
    images = [(name, encoded(Image.new("L", (4, 4), n))) for name in ("bus", "train", "val") for n in range(8)]
    assert opened(fill(tmp_path / "vehicles", images)).classes == ("bus", "train", "val")


def test_nested_and_uppercase_images_count_and_others_are_passed_over(tmp_path, digit_pngs):
    root = fill(tmp_path / "all", digit_pngs)
    extra = encoded(Image.new("L", (16, 16)))
    (root / "digit 0" / "deep" / "er").mkdir(parents=True)
    (root / "digit 0" / "deep" / "er" / "a.PNG").write_bytes(extra)
    (root / "digit 0" / ".hidden.png").write_bytes(b"")
    (root / "digit 0" / "notes.txt").write_text("hello")
    (root / ".cache").mkdir()
    data = opened(root)
    assert sum(sizes(data)) == 201
    assert any("1 files" in note and "passed over" in note for note in data.notes)


def test_other_folders_beside_the_splits_are_told(tmp_path, digit_pngs):
    fill(tmp_path / "split" / "train", digit_pngs)
    (tmp_path / "split" / "scripts").mkdir()
    assert any("scripts was passed over" in note for note in opened(tmp_path / "split").notes)


def test_class_lists_that_differ_are_named(tmp_path, digit_pngs):
    fill(tmp_path / "split" / "train", digit_pngs)
    fill(tmp_path / "split" / "test", [("digit x" if name == "digit 3" else name, data) for name, data in digit_pngs])
    with pytest.raises(ValueError, match=r"test has class folders that .*train has not: digit x"):
        opened(tmp_path / "split")


def test_a_split_may_lack_classes_or_labels(tmp_path, digit_pngs):
    fill(tmp_path / "split" / "train", digit_pngs)
    fill(tmp_path / "split" / "val", [(name, data) for name, data in digit_pngs if name not in ("digit 3", "digit 4")])
    (tmp_path / "split" / "val" / "digit 3").mkdir()
    (tmp_path / "split" / "test").mkdir()
    (tmp_path / "split" / "test" / "1.png").write_bytes(digit_pngs[0][1])
    data = opened(tmp_path / "split")
    assert len(data.classes) == 10 and not {3, 4} & set(data.test.labels.tolist())
    assert any("val has no images of digit 3, digit 4" in note for note in data.notes)
    assert any("test was passed over: it has no class folders" in note for note in data.notes)
    (tmp_path / "bare" / "val" / "digit 3").mkdir(parents=True)
    fill(tmp_path / "bare" / "train", digit_pngs)
    with pytest.raises(ValueError, match="val has no images; fill or remove it"):
        opened(tmp_path / "bare")


def test_what_is_missing_is_named_with_what_is_there(tmp_path, digit_pngs):
    fill(tmp_path / "pets", digit_pngs)
    with pytest.raises(ValueError, match=r"pest is not a folder; .* has .*pets"):
        opened(tmp_path / "pest")
    (tmp_path / "pets" / "digit 99").mkdir()
    with pytest.raises(ValueError, match=r"class folder .*digit 99 has no images"):
        opened(tmp_path / "pets")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none has no class folders"):
        opened(tmp_path / "none")
    fill(tmp_path / "halves" / "test", digit_pngs)
    with pytest.raises(ValueError, match="has test but no train folder"):
        opened(tmp_path / "halves")
    fill(tmp_path / "twice" / "train", digit_pngs)
    fill(tmp_path / "twice" / "val", digit_pngs)
    fill(tmp_path / "twice" / "valid", digit_pngs)
    with pytest.raises(ValueError, match="val and valid, which both mean val"):
        opened(tmp_path / "twice")


def test_names_beyond_ascii(tmp_path, digit_pngs):
    data = opened(fill(tmp_path / "ünï", [(name.replace("digit", "цифра ж"), image) for name, image in digit_pngs]))
    assert data.classes[0] == "цифра ж 0"


def test_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert ImageFolder(root="pets").absolute().root == str(tmp_path / "pets")
    assert ImageFolder(root="~/pets").absolute().root == str(tmp_path / "me" / "pets")
    absolute = ImageFolder(root=str(Path("/data/pets")), size=8)
    assert absolute.absolute() == absolute

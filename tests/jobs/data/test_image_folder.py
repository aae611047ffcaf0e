import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.data import ImageFolder
from jobs.data.formats import SUFFIXES, is_image
from jobs.data.listing import encoded_paths
from jobs.paths import absolute
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
    assert absolute(ImageFolder(root="pets")).root == str(tmp_path / "pets")
    assert absolute(ImageFolder(root="~/pets")).root == str(tmp_path / "me" / "pets")
    already = ImageFolder(root=str(Path("/data/pets")), size=8)
    assert absolute(already) == already


CLASSES = ("ant", "bee", "cat")


def several(root, classes=CLASSES, count=8):
    """Small images of their own, a few in each class folder."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            seed = abs(hash((str(root), name, number)))
            pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{label}{number}.png")
    return root


@pytest.mark.parametrize("stray", ["preview.png", "._preview.png", ".DS_Store.png"])
def test_loose_and_hidden_images_make_no_split_a_class(tmp_path, stray):
    for split in ("train", "test"):
        several(tmp_path / "s" / split)
        Image.new("L", (4, 4)).save(tmp_path / "s" / split / stray)
    data = opened(tmp_path / "s")
    assert data.classes == CLASSES and sizes(data) == (18, 6, 24)
    assert sum("1 images in no class folder of" in note for note in data.notes) == (2 if stray[0] != "." else 0)


def test_what_may_be_splits_or_classes_is_refused_with_both_readings(tmp_path):
    several(tmp_path / "vehicles", ("bus", "car"))
    several(tmp_path / "vehicles" / "train", ("express", "regional"))
    with pytest.raises(ValueError, match=r"has train, called as a split .* beside bus, car .*is a split, .*is a class"):
        opened(tmp_path / "vehicles")
    several(tmp_path / "two", ("train", "test"))
    with pytest.raises(ValueError, match="only train and test, which hold no folders"):
        opened(tmp_path / "two")
    several(tmp_path / "clear" / "train")
    several(tmp_path / "clear" / "test")
    several(tmp_path / "clear", ("unlabelled",))
    data = opened(tmp_path / "clear")
    assert data.classes == CLASSES and any("unlabelled was passed over" in note for note in data.notes)


def test_links_to_folders_are_followed_and_lead_into_no_circle(tmp_path):
    root = several(tmp_path / "l")
    several(tmp_path / "x", ("more", "whole"))
    (tmp_path / "x" / "more" / "back").symlink_to(root / "ant")
    (tmp_path / "x" / "more" / "self").symlink_to(tmp_path / "x" / "more")
    links = {
        "ant/more": "x/more",
        "ant/again": "x/more",
        "ant/up": "l",
        "ant/here": "l/ant",
        "dog": "x/whole",
        "o": "l",
    }
    for link, target in links.items():
        (root / link).symlink_to(tmp_path / target)
    (root / "ant" / "one.png").symlink_to(tmp_path / "x" / "whole" / "10.png")
    data = opened(root)
    assert data.classes == (*CLASSES, "dog")
    assert sum(sizes(data)) == 4 * 8 + 8 + 1
    notes = " | ".join(data.notes)
    assert f"ant/again is a link, and the images in {tmp_path}/x/more were read too" in notes
    for path in ("ant/more", "ant/up", "ant/here", "ant/again/back", "ant/again/self", "l/o"):
        assert f"{path} was passed over: it is a link" in notes
    (tmp_path / "far" / "b").mkdir(parents=True)
    several(tmp_path / "far", ("a",))
    (tmp_path / "far" / "b" / "link").symlink_to(tmp_path / "x" / "whole")
    assert opened(tmp_path / "far").classes == ("a", "b")


def test_pipes_and_devices_are_passed_over(tmp_path):
    root = several(tmp_path / "odd")
    os.mkfifo(root / "ant" / "pipe.png")
    (root / "bee" / "zero.png").symlink_to("/dev/zero")
    data = opened(root)
    assert sum(sizes(data)) == 24
    assert sum("was passed over: it is no file (a pipe, a socket or a device)" in note for note in data.notes) == 2


def test_accents_may_be_composed_or_not(tmp_path):
    for split, name in (("train", "caf\u00e9"), ("test", "cafe\u0301")):
        several(tmp_path / "s" / split, (name, "bar"))
    data = opened(tmp_path / "s")
    assert data.classes == ("bar", "caf\u00e9") and np.bincount(data.test.labels).tolist() == [8, 8]
    several(tmp_path / "one", ("caf\u00e9", "cafe\u0301", "bar"))
    with pytest.raises(ValueError, match=r"look alike .* 'cafe\\u0301' and 'caf\\xe9'"):
        opened(tmp_path / "one")


def test_folders_of_other_files_say_which(tmp_path):
    root = several(tmp_path / "phone")
    for path in (root / "ant").glob("*.png"):
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(ValueError, match=r"ant has no images \(its 8 files are .heic 8, and read are"):
        opened(root)
    several(root, ("ant",))
    [note] = [note for note in opened(root).notes if "8 files in" in note]
    assert note.endswith("(.heic 8); 8 of them are photographs: convert them to JPEG, or rename what is JPEG to .jpg")


def test_names_are_read_as_the_standard_library_reads_them():
    pieces = ("a", ".", "/", ".jpg", ".JPEG", ".png", "jpg", ".txt", "\udcff", "\u00e9")
    names = ["".join(each) for count in range(1, 5) for each in product(pieces, repeat=count)]
    assert [is_image(name) for name in names] == [os.path.splitext(name)[1].lower() in SUFFIXES for name in names]
    assert encoded_paths(names) == list(map(os.fsencode, names)) and encoded_paths([]) == []


def test_files_are_in_the_order_of_their_bytes(tmp_path, digit_pngs):
    for name in ("\udcff", "\ufb01", "\u00e9", "z", "\U0001f600", "inner/a", "inner.b", "Z"):
        for label in ("a", "b"):
            path = tmp_path / label / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(digit_pngs[0][1])
    store = ImageFolder(root=str(tmp_path)).stores()[1]["train"]
    found = [store.path(index) for index in range(len(store))]
    assert found == sorted(found) and len(found) == 16
    assert store.labels.tolist() == [0] * 8 + [1] * 8 and store.lengths.tolist() == [len(digit_pngs[0][1])] * 16

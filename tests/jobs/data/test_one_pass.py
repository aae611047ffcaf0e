"""Looking at all images and preparing their pixels are one pass: the same findings and pixels, decoded once."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.data import ImageFolder, store
from jobs.data.decode import DataError, Decoded
from jobs.data.files import Files
from jobs.data.prepared import Prepared
from jobs.data.progress import shown
from jobs.data.sets import Arrays, Data
from tests.jobs.augment.pictures import PHOTOS


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of two photographs, of many shapes: JPEG and PNG, some turned, some much too large, some small."""
    root, turned = tmp_path_factory.mktemp("photographs"), Image.Exif()
    turned[0x0112] = 6
    for name, photo in zip(("china", "flower"), PHOTOS, strict=True):
        (root / name).mkdir()
        for number in range(70):
            tall, wide = 100 + 3 * number, 320 - 2 * number
            image = Image.fromarray(photo.numpy()).crop((number, number, number + wide, number + tall))
            image = image.resize((30, 50)) if number % 9 == 0 else image
            kind = ".png" if number % 7 == 0 else ".jpg"
            image.save(root / name / f"{number:02}{kind}", **({"exif": turned} if number % 5 == 0 else {}))
    return root


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """A copy of them, to be spoilt."""
    return Path(shutil.copytree(photographs, tmp_path / "photographs"))


def opened(folder: Path, resizes: bool | None = None, **changes: Any) -> Data:
    fields = {"root": str(folder), "size": 32, "in_memory": False, "prepare": 48, "crop_ratio": 0.9, **changes}
    return ImageFolder(**fields).open(resizes)


def splits(data: Data) -> list[Prepared]:
    every = (data.training(True), data.val, data.test)
    return [split for split in every if isinstance(split, Prepared)]


def forget(home: Path) -> None:
    shutil.rmtree(home / "cache", ignore_errors=True)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def made_twice(folder: Path, home: Path, **changes: Any) -> tuple[dict[str, Any], list[bytes]]:
    """The data as two passes find it, and the prepared pixels."""
    forget(home)
    data = opened(folder, **changes)
    assert not (home / "cache" / "prepared").exists(), "a plan prepares nothing"
    data.here(True)
    return facts(data), [split.path.read_bytes() for split in splits(data)]


def facts(data: Data) -> dict[str, Any]:
    kept = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    for name in ("train", "val", "test"):
        split = kept.pop(name)
        kept[name] = split.labels.tolist(), (split.images if isinstance(split, Arrays) else split.shapes).tolist()
        kept[f"{name} key"] = split.path.name if isinstance(split, Prepared) else ""
    return kept


GIVEN: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
Decodings = Counter[tuple[int, bool]]


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> Decodings:
    """How many times each image was decoded: by the hash of its bytes, and whether it might become smaller."""
    counted: Decodings = Counter()
    usual = store.decoded

    def counting(data: bytes, channels: int, exif_orientation: bool, most: int = 1) -> Decoded:
        counted[hash(data), most > 1 and data.startswith(b"\xff\xd8")] += 1
        return usual(data, channels, exif_orientation, most)

    monkeypatch.setattr(store, "decoded", counting)
    return counted


@pytest.mark.parametrize("kept", ["pixels", "jpeg"])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("own_splits", [False, True])
def test_one_pass_gives_what_two_give(
    folder: Path, home: Path, in_memory: bool, own_splits: bool, given: bool, kept: str, decodings: Decodings
) -> None:
    if own_splits:
        inside = folder.parent / "split"
        for split, numbers in (("train", range(50)), ("val", range(50, 60)), ("test", range(60, 70))):
            for path in folder.glob("*/*"):
                if int(path.stem) in numbers:
                    target = inside / split / path.parent.name / path.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, target)
        folder = inside
    changes: dict[str, Any] = {
        "in_memory": in_memory,
        "crop_ratio": 1.0,
        "prepare_as": kept,
        **(GIVEN if given else {}),
    }
    expected = made_twice(folder, home, **changes)
    assert max(decodings.values()) > 1
    forget(home)
    decodings.clear()
    shown_work = []
    with shown(lambda what, total, done: shown_work.append((what, total)) or (lambda count: None)):
        data = opened(folder, True, **changes)
        every = splits(data)
        assert all(split.path.exists() for split in every) and len(every) == (1 if in_memory else 3)
        data.here(True)
    assert max(decodings.values()) == 1
    if given and not in_memory:
        assert len(decodings) == len(list(folder.rglob("*.*g"))), "large ones were not decoded whole besides"
    assert (facts(data), [split.path.read_bytes() for split in every]) == expected
    whats = {what for what, _ in shown_work}
    assert whats == {"looking at images", "reading and preparing images"} | (
        {"reading images"} if in_memory and own_splits else set()
    )
    assert not [path for path in (home / "cache" / "prepared").iterdir() if path.suffix in (".part", ".chunks")]


def test_where_mean_and_std_are_given_soundness_alone_is_looked_at(
    folder: Path, home: Path, decodings: Decodings
) -> None:
    cut_short(folder / "china" / "33.jpg")
    data = opened(folder, max_corrupt=1, **GIVEN)
    smaller = Counter(small for _, small in decodings)
    assert smaller[True] == len(list(folder.rglob("*.jpg")))
    found = facts(data)
    for changes in ({}, GIVEN):
        decodings.clear()
        facts(opened(folder, max_corrupt=1, **changes))
        assert bool(decodings) is (changes == {})
    forget(home)
    opened(folder, max_corrupt=1)  # finds more
    decodings.clear()
    assert facts(opened(folder, max_corrupt=1, **GIVEN)) == found and not decodings


def test_what_is_not_cut_from_is_not_prepared(folder: Path, home: Path) -> None:
    data = opened(folder, False, in_memory=True)
    assert isinstance(data.train, Arrays) and not (home / "cache" / "prepared").exists()


def test_the_second_opening_decodes_nothing(folder: Path, decodings: Decodings) -> None:
    opened(folder, True)
    decodings.clear()
    opened(folder, True).here(True)
    assert not decodings


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("how", ["its header", "its end"])
def test_images_that_cannot_be_read(folder: Path, home: Path, how: str, in_memory: bool, decodings: Decodings) -> None:
    """Where only decoding says so, not the header, pixels are made afterwards, once the splits are known."""
    changes: dict[str, Any] = {"max_corrupt": 1, "in_memory": in_memory, "crop_ratio": 1.0}
    bad = folder / "china" / "33.jpg"
    if how == "its header":
        bad.write_bytes(b"no image")
    else:
        cut_short(bad)
    expected = made_twice(folder, home, **changes)
    assert any("skipped 1 images" in note for note in expected[0]["notes"])
    forget(home)
    decodings.clear()
    data = opened(folder, True, **changes)
    assert all(split.path.exists() for split in splits(data)) is (how == "its header")
    data.here(True)
    assert max(decodings.values()) == (1 if how == "its header" else 2)
    assert (facts(data), [split.path.read_bytes() for split in splits(data)]) == expected
    left = sorted(path.name for path in (home / "cache" / "prepared").glob("*.[!l]*"))
    assert left == sorted(split.path.name for split in splits(data))
    with pytest.raises(DataError, match=r"1 of 140 images cannot be read:\n  .*33\.jpg"):
        opened(folder, True)


def test_a_split_that_cannot_be_is_refused_in_the_same_words(folder: Path) -> None:
    refused = []
    for resizes in (None, True):
        with pytest.raises(ValueError, match="val_fraction") as caught:
            opened(folder, resizes, val_fraction=0.001)
        refused.append(str(caught.value))
    cut_short(folder / "flower" / "12.jpg")
    for resizes in (None, True):
        with pytest.raises(DataError, match=r"1 of 140 images cannot be read") as caught:
            opened(folder, resizes, val_fraction=0.001)
        refused.append(str(caught.value))
    assert refused[0] == refused[1] and refused[2] == refused[3]


SLOW = """
import sys, time
from jobs.data import ImageFolder, scan
from jobs.data.files import Files
usual = Files.twice
def slow(self, *given):
    time.sleep(0.02)
    return usual(self, *given)
Files.twice = slow
scan._PART, scan._CHUNK_BYTES = 32, 8 * 32 * 32 * 3
scan.threads = lambda: 2
given = dict(size=32, in_memory=False, prepare=48, crop_ratio=0.9, max_corrupt=1, prepare_as=sys.argv[2])
ImageFolder(root=sys.argv[1], **given).open(True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["pixels", "jpeg"])
@pytest.mark.parametrize("broken", [False, True])
def test_a_killed_pass_is_resumed(
    folder: Path, home: Path, broken: bool, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken:
        cut_short(folder / "china" / "40.jpg")
    expected = made_twice(folder, home, max_corrupt=1, prepare_as=kept)
    forget(home)
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(folder), kept])
    prepared, until = home / "cache" / "prepared", time.monotonic() + 120
    try:
        while time.monotonic() < until and not (
            list(prepared.glob("*.chunks")) and len(list(home.glob("cache/scan/*.parts/*.npz"))) >= 2
        ):
            time.sleep(0.01)
        time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    parts = [int(path.stem) for path in home.glob("cache/scan/*.parts/[0-9]*.npz")]
    notes = [line.split() for path in prepared.glob("*.chunks") for line in path.read_text().splitlines()]
    assert len(parts) >= 2 and notes and not [*prepared.glob("*.pixels"), *prepared.glob("*.jpegs")]
    if kept == "pixels":
        assert (30 if broken else 64) <= sum(int(last) - int(first) for first, last, _ in notes) < 140
    with open(max(prepared.glob("*.part"), key=os.path.getsize), "r+b") as file:
        file.write(b"\0" * 1000)  # as a disk that lost power may leave it: noted, but not written
    looked: list[int] = []
    usual = Files.twice
    monkeypatch.setattr("jobs.data.scan._PART", 32)
    monkeypatch.setattr(Files, "twice", lambda self, index, *given: looked.append(index) or usual(self, index, *given))
    data = opened(folder, True, max_corrupt=1, prepare_as=kept)
    assert len(looked) == 140 - 32 * len(parts)
    data.here(True)
    assert (facts(data), [split.path.read_bytes() for split in splits(data)]) == expected
    assert not [path for path in prepared.iterdir() if path.suffix in (".part", ".chunks")]


@pytest.mark.slow
def test_two_processes_make_it_once(folder: Path, home: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", SLOW, str(folder), "pixels"]) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    pixels = list(home.glob("cache/prepared/*.pixels"))
    assert len(pixels) == 3
    before = [path.stat().st_ino for path in pixels]
    data = opened(folder)
    data.here(True)
    assert [path.stat().st_ino for path in pixels] == before
    assert sorted(split.path for split in splits(data)) == sorted(pixels)
    assert np.concatenate([split.pixels for split in splits(data)]).any()

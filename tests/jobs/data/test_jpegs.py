"""Prepared JPEG: as prepared pixels, but for the bytes, which are near to them; what is scored is not changed."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.augment import RandomResizedCrop
from jobs.augment.resample import resized
from jobs.data import ImageFolder, jpegs, memory
from jobs.data.decode import DataError
from jobs.data.identity import OtherDataError, check_same, identity
from jobs.data.jpegs import Jpegs
from jobs.data.loader import Loader
from jobs.data.packed import Packed
from jobs.data.prepared import Short
from jobs.data.progress import shown
from jobs.data.sets import Arrays, Data
from jobs.lock import Lock
from jobs.place import Place
from jobs.randomness import SampleDraws
from tests.jobs import digits_job

FEW = {"val_fraction": 0.02, "test_fraction": 0.02}


def source(folder: Path, **changes: object) -> ImageFolder:
    given = {"root": str(folder), "size": 32, "in_memory": False, "prepare": 64, "prepare_as": "jpeg", **changes}
    return ImageFolder(**given)  # type: ignore[arg-type]


def opened(folder: Path, **changes: object) -> Data:
    return source(folder, **changes).open()


def packed(data: Data) -> Jpegs:
    assert isinstance(data.train, Jpegs)
    return data.train


@pytest.mark.parametrize("channels", [3, 1])
def test_each_image_is_near_its_pixels(photographs: Path, channels: int) -> None:
    data, pixels = (opened(photographs, prepare_as=kept, channels=channels) for kept in ("jpeg", "pixels"))
    data.here(True)
    pixels.here(True)
    pack, exact = packed(data), pixels.train
    assert isinstance(exact, Packed) and len(pack) == len(exact) > 100
    errors = []
    for index in range(len(pack)):
        image = pack.read(index)
        assert image.shape == exact.read(index).shape == (*pack.shapes[index], channels)
        errors.append(np.abs(image.astype(int) - exact.read(index)).mean())
    assert np.mean(errors) < 4 and max(errors) < 8, "at 64 pixels a block of 8 holds more than at 256"
    assert pack.path.stat().st_size < exact.nbytes * (0.45 if channels == 1 else 0.3)
    assert sum("short side of 64 pixels at most: about" in note for note in data.notes) == 1


def test_drawings_and_tiny_images(tmp_path: Path) -> None:
    """What is no photograph at all: hard edges, one row, one column."""
    drawing = np.full((90, 100, 3), 255, np.uint8)
    drawing[20:70, 30:32] = 0
    drawing[40:44, 10:90] = (200, 0, 0)
    folder = tmp_path / "images"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number, pixels in enumerate([drawing, drawing[:1], drawing[:, :1], drawing[:, ::-1], drawing] * 3):
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    data, exact = (opened(folder, prepare=80, prepare_as=kept) for kept in ("jpeg", "pixels"))
    data.here(True)
    exact.here(True)
    assert not isinstance(exact.train, Arrays)
    for index in range(len(data.train)):
        one, other = packed(data).read(index), exact.train.read(index)
        assert one.shape == other.shape and np.abs(one.astype(int) - other).mean() < 3


def test_what_is_scored_comes_from_the_originals(photographs: Path) -> None:
    several = [opened(photographs, crop_ratio=0.8), opened(photographs, crop_ratio=0.8, prepare=False)]
    spec = digits_job.job(data=source(photographs, prepare=False, loader_workers=0).model_dump(mode="json"))
    fed = []
    for each in several:
        each.here(True)
        with closing(Loader(spec, each, Place(), spec.steps(len(each.train)))) as loader:
            fed.append([torch.cat([x for x, _ in loader.scoring(split)]) for split in (each.val, each.test)])
    assert all(torch.equal(*pair) for pair in zip(*fed, strict=True))


def test_any_number_of_processes_gives_the_same_batches(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beside a GPU, which holds pixels alone."""
    monkeypatch.setattr(memory, "fits", lambda size, device: True)
    data, trick = opened(photographs), RandomResizedCrop()
    data.here(True)
    fed = []
    for workers in (0, 1, 2):
        kept = source(photographs, loader_workers=workers).model_dump(mode="json")
        spec = digits_job.job(data=kept, augment=[{"kind": "random_resized_crop"}], batch_size=20)
        with closing(Loader(spec, data, Place(), spec.steps(len(data.train)))) as loader:
            assert loader._feed is not None
            visits = loader._order(0)[:20]
            fed.append([x for epoch in range(2) for _, parts in loader.epoch(epoch, 0) for _, x, _ in parts])
    assert len(fed[0]) > 8
    assert all(torch.equal(*pair) for other in fed[1:] for pair in zip(fed[0], other, strict=True))
    pack = packed(data)
    boxes = trick.boxes(SampleDraws(0, 0, visits), torch.from_numpy(pack.shapes)[visits]).tolist()
    cut = [
        resized(pack.cut(int(visit), box, 32), (32, 32), "bilinear") for visit, box in zip(visits, boxes, strict=True)
    ]
    assert torch.equal(fed[0][0], loader._input(torch.stack(cut)))


def test_large_boxes_are_decoded_smaller(photographs: Path) -> None:
    data = opened(photographs, prepare=180, size=32)
    data.here(True)
    pack = packed(data)
    index = int((pack.shapes.min(1) == 180).argmax())
    cut, whole = pack.cut(index, [4, 6, 160, 170], 32), pack.read(index)[4:164, 6:176]
    assert cut.shape == (80, 85, 3)
    one, other = (resized(each, (32, 32), "bilinear").numpy().astype(int) for each in (cut, whole))
    assert np.abs(one - other).mean() < 2


def test_in_memory_they_are_what_is_cut_from(photographs: Path) -> None:
    data = opened(photographs, in_memory=True)
    assert isinstance(data.train, Arrays) and isinstance(data.training(True), Jpegs)


def test_a_run_is_of_jpeg_or_not(photographs: Path) -> None:
    data = opened(photographs)
    others = [
        opened(photographs, prepare_as="pixels"),
        opened(photographs, prepare=False),
        opened(photographs, prepare=80),
    ]
    assert len({each.digest for each in (data, *others)}) == len({each.listed for each in (data, *others)}) == 4
    assert data.digest == opened(photographs).digest
    with pytest.raises(OtherDataError):
        check_same(identity(others[0]), data)
    assert opened(photographs, prepare=False).digest == others[1].digest, "prepare_as is of prepared images alone"


def test_an_image_too_long_for_jpeg(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            wide = 70_000 if 4 <= number < 8 else 100
            Image.new("L", (wide, 17)).save(folder / name / f"{number}.png")
    with pytest.raises(
        ValueError, match=r"would be 17x70000, and JPEG ends at 65,500 pixels; set data.prepare_as to pixels"
    ):
        opened(folder, val_fraction=0.1, test_fraction=0.1)
    opened(folder, prepare_as="pixels", val_fraction=0.1, test_fraction=0.1)


SLOW = """
import sys, time
from jobs.data import ImageFolder, ahead, jpegs
usual = jpegs._encoded
def slow(image):
    time.sleep(0.05)
    return usual(image)
jpegs._encoded = slow
ahead.threads = lambda: 1
given = dict(size=32, in_memory=False, prepare=64, prepare_as="jpeg", val_fraction=0.02, test_fraction=0.02)
ImageFolder(root=sys.argv[1], **given).open().train.here()
"""


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["lost bytes", "a torn note"])
def test_a_killed_preparation_resumes(photographs: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    pack = packed(opened(photographs, **FEW))
    notes, part = pack.path.with_suffix(".chunks"), pack.path.with_suffix(".part")
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(photographs)])
    try:
        until = time.monotonic() + 120
        while not (notes.exists() and notes.read_bytes().count(b"\n") >= 1) and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = notes.read_bytes().count(b"\n")
    assert 0 < done < 3 and not pack.path.exists()
    if damage == "lost bytes":  # as a disk that lost power may leave it: noted, but not written
        with open(part, "r+b") as file:
            file.write(b"\0" * 1000)
        done = 0
    else:
        with open(notes, "ab") as file, open(part, "ab") as content:
            file.write(b"800 70")
            content.write(b"x" * 900)
    made, before = [], []
    usual = Short.__call__
    monkeypatch.setattr(Short, "__call__", lambda self, *given: made.append(given[1]) or usual(self, *given))
    with shown(lambda what, total, first: before.append(first) or before.append):
        pack.here()
    assert len(made) == len(pack) - 64 * done and sum(before) == len(pack)
    whole = pack.path.read_bytes()
    assert not part.exists() and not notes.exists()
    pack.path.unlink()
    again = packed(opened(photographs, **FEW))
    again.here()
    assert again.path == pack.path and again.path.read_bytes() == whole


def test_images_that_cannot_be_read_are_all_named(photographs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photographs, tmp_path / "copy"))
    data = opened(folder, **FEW)
    for number in range(10, 22):
        (folder / "china" / f"{number:02}{'.png' if number % 7 == 0 else '.jpg'}").write_bytes(b"")
    with pytest.raises(DataError, match=r"1[0-2] of 15\d images cannot be read:\n"):
        data.here(True)
    assert not packed(data).path.exists()


def test_a_file_that_was_damaged_later(photographs: Path) -> None:
    data = opened(photographs)
    data.here(True)
    pack = packed(data)
    with open(pack.path, "r+b") as file:
        file.write(b"\0" * 50)
    with pytest.raises(DataError, match=r"jpegs is damaged; delete it, and it is made anew"):
        pack.read(0)
    with open(pack.path, "ab") as file:
        file.write(b"more")
    again = packed(opened(photographs))
    again.here()
    assert again.read(0).shape == (*again.shapes[0], 3), "of another length: it was made anew"


def test_a_full_disk(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk of a size of our own can be had everywhere, so how much is free is made up."""
    pack, pixels = packed(opened(photographs)), opened(photographs, prepare_as="pixels").train
    assert isinstance(pixels, Packed)
    old, older = pack.path.with_name("old.pixels"), pack.path.with_name("older.jpegs")
    pack.path.parent.mkdir(parents=True)
    for age, path in enumerate((old, older), 1):
        path.write_bytes(b"x" * 100)
        os.utime(path, (1000 - age, 1000 - age))
    usual = shutil.disk_usage

    def disk(path: Path) -> object:
        return usual(path)._replace(free=10 if older.exists() else jpegs._SPARE * 2)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "disk_usage", disk)
    pack.here()
    assert pack.path.exists() and old.exists() and not older.exists()
    pack.path.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usual(path)._replace(free=10))  # type: ignore[attr-defined]
    ended, going = (old.with_name(f"{name}.part") for name in ("ended", "going"))
    for path in (ended, going):
        path.write_bytes(b"x")
    with (
        Lock(going.with_suffix(".lock")),
        pytest.raises(DataError, match=r"take about .*or data.prepare to false or to a smaller side$"),
    ):
        pack.here()
    assert not old.exists() and not ended.exists() and going.exists()
    with pytest.raises(DataError, match=r"or data.prepare_as to jpeg, data.prepare to false or to a smaller side$"):
        pixels.here()


def test_a_disk_that_is_full_on_the_way(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pack = packed(opened(photographs))
    monkeypatch.setattr(jpegs.os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot keep prepared images in .*: No space left on device"):
        pack.here()
    monkeypatch.undo()


@pytest.mark.parametrize("first", [0, 40])
def test_images_that_come_out_of_order_wait(photographs: Path, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = packed(opened(photographs, **FEW))
    pack.here()
    whole, count = pack.path.read_bytes(), len(pack)
    pack.path.unlink()

    def fill(filling: jpegs.Waiting, *ranges: tuple[int, int]) -> None:
        for begin, end in ranges:
            for row in range(begin, end):
                if not filling.done[row]:
                    filling.put(row, pack.made(row, pack.images.read(row, pack.most(row))))
            filling.note(begin, end)

    if first:
        fill(pack.filling(), (0, 20), (20, first))
    filling = pack.filling()
    assert filling.done.sum() == first
    fill(filling, (100, count), (60, 100))
    assert filling.done.sum() == first, "those before are not there"
    fill(filling, (30, 60))
    assert filling.done.sum() == (count if first else 0)
    fill(filling, (0, 30))
    assert filling.done.all()
    filling.finish()
    assert pack.path.read_bytes() == whole
    pack.path.unlink()
    monkeypatch.setattr(jpegs, "_MOST_WAITING", 16)
    filling = pack.filling()
    fill(filling, (10, 30), (30, count), (0, 10))
    assert filling.done.sum() == 10 and len(filling._images) <= 16, "no more are kept than fit"
    pack.here()
    assert pack.path.read_bytes() == whole
    assert not [path for path in pack.path.parent.iterdir() if path.suffix in (".part", ".chunks")]

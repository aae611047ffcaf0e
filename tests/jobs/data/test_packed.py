"""Prepared pixels: made once, by one process, whatever kills it; what is scored is not changed by them at all."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.augment import RandomResizedCrop
from jobs.augment.resample import resized
from jobs.data import ImageFolder, memory
from jobs.data.decode import DataError
from jobs.data.identity import OtherDataError, check_same, identity
from jobs.data.loader import Loader
from jobs.data.packed import Packed
from jobs.data.prepared import Short
from jobs.data.progress import shown
from jobs.data.sets import Arrays, Data
from jobs.data.streamed import Streamed
from jobs.place import Place
from jobs.randomness import SampleDraws
from tests.jobs import digits_job


@pytest.fixture
def folder(photographs: Path) -> Path:
    return photographs


def opened(folder: Path, **changes: object) -> Data:
    return ImageFolder(**{"root": str(folder), "size": 32, "in_memory": False, "prepare": 64, **changes}).open()  # type: ignore[arg-type]


def packed(data: Data) -> Packed:
    assert isinstance(data.train, Packed)
    return data.train


def test_each_image_is_itself_or_what_pillow_makes_of_it(folder: Path) -> None:
    data, plain = opened(folder), opened(folder, prepare=False)
    pack, originals = packed(data), plain.train
    assert isinstance(originals, Streamed)
    pack.here()
    kept, errors = 0, []
    for index in range(len(pack)):
        before, after = originals.read(index), pack.read(index)
        short = min(before.shape[:2])
        if short <= 64:
            kept += 1
            assert np.array_equal(before, after)
            continue
        height, width = (max(64, round(side * 64 / short)) for side in before.shape[:2])
        assert after.shape == (height, width, 3)
        exact = np.asarray(Image.fromarray(before).resize((width, height), Image.Resampling.BICUBIC))
        errors.append(np.abs(exact.astype(int) - after).mean())
    assert kept > 5 and len(errors) > 50
    assert np.mean(errors) < 1.0 and min(errors) == 0  # of a JPEG twice as large or more, a half was decoded
    assert sum("short side of 64" in note for note in data.notes) == 1


def test_what_is_scored_comes_from_the_originals(folder: Path) -> None:
    data, plain = opened(folder, crop_ratio=0.8), opened(folder, crop_ratio=0.8, prepare=False)
    data.here(True)
    spec = digits_job.job(
        data=ImageFolder(root=str(folder), size=32, in_memory=False, loader_workers=0).model_dump(mode="json")
    )
    fed = []
    for each in (data, plain):
        with closing(Loader(spec, each, Place(), spec.steps(len(each.train)))) as loader:
            fed.append([torch.cat([x for x, _ in loader.scoring(split)]) for split in (each.val, each.test)])
    assert all(torch.equal(*pair) for pair in zip(*fed, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_training_cuts_from_prepared_pixels(folder: Path, workers: int) -> None:
    data, trick = opened(folder), RandomResizedCrop()
    data.here(True)
    source = ImageFolder(root=str(folder), size=32, in_memory=False, loader_workers=workers).model_dump(mode="json")
    spec = digits_job.job(data=source, augment=[{"kind": "random_resized_crop"}], batch_size=20)
    pack, steps = packed(data), spec.steps(len(data.train))
    with closing(Loader(spec, data, Place(), steps)) as loader:
        visits = loader._order(0)[:20]
        _, parts = next(loader.epoch(0, 0))
        x = next(parts)[1]
        boxes = trick.boxes(SampleDraws(0, 0, visits), torch.from_numpy(pack.shapes)[visits]).tolist()
        cut = [
            resized(pack.cut(int(visit), box, 32), (32, 32), "bilinear")
            for visit, box in zip(visits, boxes, strict=True)
        ]
        assert torch.equal(x, loader._input(torch.stack(cut)))


def test_on_a_gpu_with_room_the_batches_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU's memory for a GPU's here; ``benchmarks.gpu`` compares on a real one."""
    data = opened(folder)
    source = ImageFolder(root=str(folder), size=32, in_memory=False, loader_workers=0).model_dump(mode="json")
    spec = digits_job.job(data=source, augment=[{"kind": "random_resized_crop"}, {"kind": "flip"}], batch_size=20)
    fed: list[list[torch.Tensor]] = []
    for room in (False, True):
        monkeypatch.setattr(memory, "fits", lambda size, device, room=room: room)
        with closing(Loader(spec, data, Place(), spec.steps(len(data.train)))) as loader:
            assert (loader._feed is None) is room
            trained = [
                x for epoch in range(2) for _, parts in loader.epoch(epoch, 0) for part in parts for x in part[1:]
            ]
            scored = [x for split in (data.val, data.test) for batch in loader.scoring(split) for x in batch]
            fed.append(trained + scored)
    assert len(fed[0]) > 20
    assert all(torch.equal(*pair) for pair in zip(*fed, strict=True))


def test_in_memory_they_are_what_is_cut_from(folder: Path) -> None:
    data = opened(folder, in_memory=True)
    assert isinstance(data.train, Arrays) and isinstance(data.val, Arrays)
    assert isinstance(data.training(True), Packed) and data.training(False) is data.train
    needed = data.needed(True)
    assert needed.train is data.training(True) and needed.digest == data.digest
    assert data.needed(False).train is data.train


def test_a_run_is_of_prepared_pixels_or_not(folder: Path) -> None:
    data, plain, other = opened(folder), opened(folder, prepare=False), opened(folder, prepare=80)
    assert len({each.digest for each in (data, plain, other)}) == 3
    with pytest.raises(OtherDataError):
        check_same(identity(plain), data)


class Case(NamedTuple):
    short: list[int]
    side: int | None


@pytest.mark.parametrize("case", [Case([54, 60, 30], None), Case([56, 57, 20], 37), Case([500, 20, 400], 37)])
def test_auto_is_for_large_images(tmp_path: Path, case: Case) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(12):
            side = case.short[number % 3]
            pixels = np.random.default_rng(number).integers(0, 256, (side, side + 9, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    data = opened(tmp_path, prepare="auto")
    assert (packed(data).rule if case.side else None) == (Short(case.side) if case.side else None)


SLOW = """
import sys, time
from jobs.data import ImageFolder, memory
from jobs.data import packed
usual = packed.Short.__call__
def slow(self, *given):
    time.sleep(0.05)
    return usual(self, *given)
packed.Short.__call__ = slow
packed.threads = lambda: 1
data = ImageFolder(root=sys.argv[1], size=32, in_memory=False, prepare=64, val_fraction=0.02, test_fraction=0.02).open()
print("opened", flush=True)
data.train.here()
"""


@pytest.mark.slow
def test_a_killed_preparation_goes_on_where_it_was(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened(folder, val_fraction=0.02, test_fraction=0.02)
    pack = packed(data)
    notes = pack.path.with_suffix(".chunks")
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 120
        while not (notes.exists() and len(notes.read_text().splitlines()) >= 1) and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = [int(line.split()[0]) for line in notes.read_text().splitlines()]
    assert done and not pack.path.exists()
    part = pack.path.with_suffix(".part")
    with open(part, "r+b") as file:  # as a disk that lost power may leave it: noted, but not written
        file.write(b"\0" * 1000)
    made, shown_done = [], []
    usual = Short.__call__
    monkeypatch.setattr(Short, "__call__", lambda self, *given: made.append(given[1]) or usual(self, *given))
    spoilt = 0 in done
    with shown(lambda what, total, before: shown_done.append(before) or shown_done.append):
        pack.here()
    assert min(shown_done) >= 0 and sum(shown_done) == len(pack)
    assert pack.path.stat().st_blocks * 512 >= pack.nbytes, "a full disk would end the process"
    assert len(made) == len(pack) - 64 * (len(done) - spoilt)
    whole = pack.path.read_bytes()
    assert not part.exists() and not notes.exists()
    pack.path.unlink()
    pack.here()
    assert zlib.crc32(pack.path.read_bytes()) == zlib.crc32(whole)


@pytest.mark.slow
def test_several_processes_make_it_once(folder: Path, home: Path) -> None:
    code = (
        "import sys; from jobs.data import ImageFolder\n"
        "data = ImageFolder(root=sys.argv[1], size=32, in_memory=False, prepare=72).open(); data.here(True)\n"
        "print(data.train.read(5).sum(), data.train.path.stat().st_ino)"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in several}) == 1
    assert all(process.returncode == 0 for process in several)


def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk of a size of our own can be had everywhere, so how much is free is made up."""
    pack = packed(opened(folder))
    old, older = (pack.path.with_name(f"{name}.pixels") for name in ("old", "older"))
    pack.path.parent.mkdir(parents=True)
    for age, path in enumerate((old, older), 1):
        path.write_bytes(b"x" * 100)
        os.utime(path, (1000 - age, 1000 - age))
    usual, need = shutil.disk_usage, pack.nbytes * 1.05

    def disk(path: Path) -> object:
        return usual(path)._replace(free=int(need) + 1 if not older.exists() else 10)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "disk_usage", disk)
    pack.here()
    assert pack.path.exists() and old.exists() and not older.exists()
    pack.path.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usual(path)._replace(free=10))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"prepared images take .*but .* has 0.0 MB left; free some space"):
        pack.here()
    assert not old.exists()

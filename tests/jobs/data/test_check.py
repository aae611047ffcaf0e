"""``data.check: sizes``: nothing is decoded before training, and the images, and what a run is of, stay the same."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.__main__ import main
from jobs.checkpoint import Store
from jobs.data import ImageFolder, prepare
from jobs.data.decode import DataError, UnreadableError, decoded, header
from jobs.data.files import Files
from jobs.data.identity import OtherDataError, check_same, identity
from jobs.data.sets import Data
from jobs.data.streamed import LostError
from tests.jobs.augment.pictures import PHOTOS

GIVEN: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Windows of two photographs, of many shapes; some are turned by their EXIF."""
    root, turned = tmp_path / "photographs", Image.Exif()
    turned[0x0112] = 6
    for name, photo in zip(("china", "flower"), PHOTOS, strict=True):
        (root / name).mkdir(parents=True)
        for at in range(20):
            image = Image.fromarray(photo.numpy()).crop((at, at, at + 60 + at, at + 90 - at))
            image.save(root / name / f"{at:02}.jpg", exif=turned if at % 3 == 0 else Image.Exif())
    return root


def opened(folder: Path, **changes: Any) -> Data:
    fields = {"root": str(folder), "size": 32, "in_memory": False, "check": "sizes", **changes}
    return ImageFolder(**fields).open()


def cut_short(path: Path) -> Path:
    """Leaves all of an image but its end."""
    path.write_bytes(path.read_bytes()[:-100])
    return path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("exif_orientation", [True, False])
def test_a_header_says_what_decoding_finds(kind: str, exif_orientation: bool) -> None:
    for mode in ("RGB", "L"):
        image = Image.fromarray(PHOTOS[0][:30, :40].numpy()).convert(mode)
        for orientation in range(1, 9):
            exif, buffer = Image.Exif(), io.BytesIO()
            exif[0x0112] = orientation
            image.save(buffer, kind, exif=exif)
            found = decoded(buffer.getvalue(), 3, exif_orientation)
            expected = (*found.pixels.shape[:2], found.native_channels)
            assert header(buffer, exif_orientation) == expected, (mode, orientation)
    for data, reason in ((b"", "zero bytes"), (b"%PDF-1.7", "a PDF file"), (b"\xff\xd8\xff\xe0", "not an image")):
        with pytest.raises(UnreadableError, match=reason):
            header(io.BytesIO(data), exif_orientation)


def test_no_image_is_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = opened(folder, check="full", **GIVEN)
    with monkeypatch.context() as patch:
        patch.setattr(Files, "decoded", None)
        patch.setattr(Files, "load", None)
        data = opened(folder, channels=3, **GIVEN)
    assert any("data.check: sizes" in note for note in data.notes)
    assert (data.check, data.digest, data.listed) == ("sizes", full.listed, full.listed) and full.digest != data.digest
    for split in ("train", "val", "test"):
        one, other = getattr(full, split), getattr(data, split)
        assert np.array_equal(one.labels, other.labels) and np.array_equal(one.shapes, other.shapes)
        assert all(np.array_equal(one.read(index), other.read(index)) for index in range(len(one)))


def test_mean_and_std_are_those_of_some_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, every = opened(folder, check="full"), opened(folder)
    assert (every.mean, every.std) == (full.mean, full.std), "there are no more than are looked at"
    memory = opened(folder, in_memory=True)
    assert (memory.digest, memory.mean) == (every.digest, every.mean)
    monkeypatch.setattr(prepare, "_SAMPLE", 5)
    some, again = opened(folder), opened(folder, in_memory=True)
    assert "mean and std are those of 5 training images, evenly spread" in some.notes
    assert some.mean == again.mean != full.mean and some.mean == pytest.approx(full.mean, abs=0.1)
    broken = cut_short(folder / "china" / "00.jpg"), cut_short(folder / "flower" / "00.jpg")
    monkeypatch.setattr(prepare, "_SAMPLE", 4096)
    with pytest.raises(DataError, match=rf"({'|'.join(map(str, broken))}) cannot be read: .* set it to full"):
        opened(folder)


def test_the_digest_is_that_of_names_and_lengths(folder: Path) -> None:
    first = opened(folder, **GIVEN).digest
    shutil.copytree(folder, folder.parent / "copy")
    os.utime(folder / "china" / "03.jpg")
    assert opened(folder, **GIVEN).digest == opened(folder.parent / "copy", **GIVEN).digest == first
    (folder / "china" / "03.jpg").rename(folder / "china" / "003.jpg")
    with open(folder.parent / "copy" / "china" / "03.jpg", "ab") as file:
        file.write(b"\0")
    assert len({first, opened(folder, **GIVEN).digest, opened(folder.parent / "copy", **GIVEN).digest}) == 3


def test_only_what_differs_is_told_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, sizes = opened(folder, check="full", **GIVEN), opened(folder, **GIVEN)
    assert check_same(identity(sizes), sizes) == check_same(identity(full), full) == ""
    assert "began with data.check: full, and the check is sizes now" in check_same(identity(full), sizes)
    assert "began with data.check: sizes, and the check is full now" in check_same(identity(sizes), full)
    monkeypatch.setattr(prepare, "_SAMPLE", 5)
    for other in (opened(folder), opened(folder, val_fraction=0.3, **GIVEN), opened(folder, prepare=40, **GIVEN)):
        with pytest.raises(OtherDataError, match=r"data\.check was full and is sizes"):
            check_same(identity(full), other)
    before = {name: kept for name, kept in identity(full).items() if name not in ("check", "listed")}
    assert check_same(before, full) == ""
    with pytest.raises(OtherDataError, match=r"data\.check was full and is sizes"):
        check_same(before, sizes)
    path = folder / "china" / "03.jpg"
    path.write_bytes(path.read_bytes()[:-3] + b"\0" + path.read_bytes()[-2:])
    with pytest.raises(OtherDataError, match="not the same ones"):
        check_same(identity(full), opened(folder, check="full", **GIVEN))


def test_a_broken_image_is_named_when_it_is_met(folder: Path) -> None:
    bad = cut_short(folder / "flower" / "07.jpg")
    (folder / "china" / "11.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 40 images cannot be read:\n  .*china/11.jpg: zero bytes"):
        opened(folder, **GIVEN)
    data = opened(folder, max_corrupt=1, val_fraction=0.05, test_fraction=0.05, **GIVEN)
    assert sum("11.jpg: zero bytes" in note for note in data.notes) == 1
    assert sum("max_corrupt counts those alone whose beginning cannot be read" in note for note in data.notes) == 1
    splits = [data.train, data.val, data.test]
    with pytest.raises(LostError) as caught:
        _ = [split.read(index) for split in splits for index in range(len(split))]  # type: ignore[union-attr]
    assert str(caught.value).startswith(f"{bad} cannot be read: ")
    assert "data.check: sizes looked at names and headers alone; set it to full" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    for more in ({"check": "full"}, {"in_memory": True}):  # the cure, and what is decoded anyway
        skipped = opened(folder, **{"max_corrupt": 2, **more, **GIVEN})
        assert any(note.startswith("skipped 2 images") and "07.jpg" in note for note in skipped.notes)


def test_preparing_counts_and_names_all_that_are_broken(folder: Path) -> None:
    bad = [cut_short(folder / "china" / f"{number:02}.jpg") for number in range(5, 17)]
    data = opened(folder, prepare=40, val_fraction=0.05, test_fraction=0.05, **GIVEN)
    with pytest.raises(DataError, match=r"1[0-2] of 36 images cannot be read:\n") as caught:
        data.here(True)
    lines = str(caught.value).splitlines()
    assert len(lines) == 13 - (lines[-2] != "  ...") and "set it to full" in lines[-1]
    assert sum(str(path) in str(caught.value) for path in bad) == 10
    for path in bad:
        shutil.copy(folder / "china" / "00.jpg", path)
    again = opened(folder, prepare=40, val_fraction=0.05, test_fraction=0.05, **GIVEN)
    again.here(True)


def test_training_is_the_same_and_resumes_with_another_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    Path("x.yaml").write_text(
        "name: t\n"
        "data: {kind: image_folder, root: photographs, size: 16, in_memory: false, loader_workers: 0,\n"
        "  mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}\n"
        "model: {kind: cnn, width: 4}\naugment: [{kind: random_resized_crop}]\noptimizer: {kind: sgd, lr: 0.01}\n"
        "epochs: 2\nbatch_size: 8\nprecision: fp32\n"
    )
    for check in ("full", "sizes"):
        main(["x.yaml", "-o", check, "-s", f"data.check={check}"])
    one, other = (Path(check, "model", "model.safetensors").read_bytes() for check in ("full", "sizes"))
    assert one == other
    main(["x.yaml", "-o", "sizes", "-s", "data.check=full", "-s", "epochs=3"])
    steps = [Store(f"{check}/checkpoints").steps()[-1] for check in ("full", "sizes")]
    assert 2 * steps[1] == 3 * steps[0]

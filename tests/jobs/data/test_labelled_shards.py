"""Labelled images in shards, held against a model's classes: those of a folder, whichever way they were written."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from jobs.data import ImageFolder
from jobs.data.labelled import open_labelled
from jobs.data.sets import Arrays
from jobs.data.shards.write import write
from jobs.models import LoadedModel
from tests.jobs.data.conftest import fill
from tests.jobs.models.tiny import tiny
from tests.storage import BUCKET, Storage


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return tiny(tmp_path_factory.mktemp("model"), classes=[f"digit {label}" for label in reversed(range(10))])


@pytest.fixture
def folder(digit_pngs: list[tuple[str, bytes]], tmp_path: Path) -> Path:
    """Splits of their own, so that what is in which shard is known."""
    for split, images in (("train", digit_pngs[:120]), ("val", digit_pngs[120:150]), ("test", digit_pngs[150:])):
        fill(tmp_path / "digits" / split, images)
    return tmp_path / "digits"


def images(path: str, model: LoadedModel, **given: object) -> dict[tuple[int, bytes], int]:
    """How many of each label and pixels there are: shards have an order of their own."""
    found = open_labelled(path, model, **given)  # type: ignore[arg-type]
    assert isinstance(found.split, Arrays)
    rows = zip(found.split.labels.tolist(), found.split.images, strict=True)
    counted: dict[tuple[int, bytes], int] = {}
    for label, pixels in rows:
        counted[label, pixels.tobytes()] = counted.get((label, pixels.tobytes()), 0) + 1
    return counted


@pytest.mark.parametrize("remote", [False, True])
def test_a_split_that_was_written(
    folder: Path, tmp_path: Path, model: LoadedModel, remote: bool, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ImageFolder(root=str(folder)), str(tmp_path / "shards"), 10_000)
    root = str(tmp_path / "shards")
    if remote:
        root = storage.put(tmp_path / "shards", "labelled")
    expected = images(str(folder / "test"), model)
    assert images(f"{root}/test-*.tar", model) == expected
    assert len(expected) > 40
    with monkeypatch.context() as patch:
        patch.setattr("jobs.data.labelled.MEMORY_BYTES", 0)
        streamed = open_labelled(f"{root}/test-*.tar", model)
    kept = open_labelled(f"{root}/test-*.tar", model)
    assert isinstance(kept.split, Arrays) and not isinstance(streamed.split, Arrays)
    for index in range(len(kept.split)):
        assert np.array_equal(streamed.split.fitted(index, 16, 1.0), kept.split.images[index])
    assert streamed.names[3].startswith(f"{root}/test-0000")
    for path in (root, f"{root}/*.tar", f"{root}/test-00000.tar"):
        with pytest.raises(
            ValueError, match=r"is not one split of the shards in .*; name one: .*/test-\*\.tar, .*/val"
        ):
            open_labelled(path, model)
    with pytest.raises(ValueError, match=r"--data .*x-\*\.tar' names no file"):
        open_labelled(f"{root}/x-*.tar", model)


def shard(path: Path, rows: list[tuple[str, bytes]], suffix: str = "cls") -> Path:
    """A tar file as WebDataset writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number, (label, data) in enumerate(rows):
            for kind, content in (("png", data), (suffix, label.encode())):
                info = tarfile.TarInfo(f"{number:06}.{kind}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def test_shards_of_others(
    folder: Path, tmp_path: Path, model: LoadedModel, digit_pngs: list[tuple[str, bytes]]
) -> None:
    expected, rows = images(str(folder / "test"), model), digit_pngs[150:]
    shard(tmp_path / "named" / "a.tar", rows[:20])
    shard(tmp_path / "named" / "b.tar", rows[20:])
    for path in ("named", "named/*.tar", "named/[ab].tar"):
        assert images(str(tmp_path / path), model) == expected
    numbered = [(str(model.classes.index(name)), data) for name, data in rows]
    shard(tmp_path / "numbered" / "a.tar", numbered)
    assert images(str(tmp_path / "numbered"), model) == expected
    assert any(
        "labels are read as the numbers" in note for note in open_labelled(str(tmp_path / "numbered"), model).notes
    )
    keyed = [(f'{{"kind": "{name}"}}', data) for name, data in rows]
    shard(tmp_path / "keyed.tar", keyed, "json")
    assert images(str(tmp_path / "keyed.tar"), model, columns=(None, "kind")) == expected
    shard(tmp_path / "strange.tar", [("mouse", rows[0][1]), *rows])
    with pytest.raises(ValueError, match="classes that the model does not know: mouse"):
        open_labelled(str(tmp_path / "strange.tar"), model)
    shutil.copy(tmp_path / "keyed.tar", folder / "test" / "original.tar")
    assert images(str(folder / "test"), model) == expected, "an archive beside class folders is not looked at"


def test_a_bucket_s_name_stays_what_it_is(storage: Storage, tmp_path: Path, model: LoadedModel) -> None:
    shard(tmp_path / "up" / "a.tar", [("digit 1", b"no image"), ("digit 2", b"")])
    url = storage.put(tmp_path / "up", "strange")
    assert url == f"s3://{BUCKET}/strange"
    with pytest.raises(ValueError, match=r"2 of 2 images cannot be read:\n  s3://.*/a\.tar image 0: "):
        open_labelled(url, model)

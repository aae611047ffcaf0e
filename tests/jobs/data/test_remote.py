"""Data on an S3 server: the same as on this disk, fetched once a machine, and every refusal with its cure."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.data import ImageFolder, Parquet, PathTable, Torchvision
from jobs.data.labelled import open_labelled
from jobs.data.sets import Data
from jobs.data.streamed import Streamed
from jobs.models.pretrained import materialize
from jobs.models.weights import FileWeights
from jobs.paths import absolute
from tests.jobs.data.conftest import ROOT, fill
from tests.jobs.models.tiny import tiny
from tests.storage import BUCKET, Storage

Images = list[tuple[str, bytes]]
SHARES = {"val_fraction": 0.3, "test_fraction": 0.3}


def same(one: Data, other: Data) -> bool:
    """Whether the digests and all pixels are equal."""
    for name in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(one, name).images, getattr(other, name).images)
    return one.digest == other.digest


@pytest.fixture
def folder(tmp_path: Path, digit_pngs: Images) -> Path:
    """Train and test folders, something that is no split, something that is no image, something hidden."""
    root = tmp_path / "images"
    fill(root / "train", digit_pngs[:50])
    fill(root / "test", digit_pngs[50:80])
    fill(root / "spare", digit_pngs[:5])
    (root / "train" / "digit 0" / "deeper").mkdir()
    (root / "train" / "digit 0" / "deeper" / "9.PNG").write_bytes(digit_pngs[0][1])
    (root / "train" / "digit 0" / "notes.txt").write_text("none")
    (root / "train" / "digit 0" / ".hidden.png").write_text("none")
    return root


def test_an_image_folder_is_the_same_and_fetched_once(storage: Storage, folder: Path) -> None:
    local = ImageFolder(root=str(folder), **SHARES).open()
    url = storage.put(folder, "folder/images")
    storage.asked.clear()
    remote = ImageFolder(root=url, **SHARES).open()
    assert same(local, remote)
    assert local.notes[0].replace(str(folder), url) == remote.notes[0] == f"{url}/spare was passed over: it is no split"
    assert any("51 files" in note and f"of {url}/train are kept on every machine" in note for note in remote.notes)
    fetched = storage.fetched("folder/images")
    assert len(fetched) == len(set(fetched)) == 81, "each image once; neither spare nor notes.txt nor hidden ones"
    assert same(local, ImageFolder(root=url, **SHARES).open())
    streamed = ImageFolder(root=url, in_memory=False, **SHARES).open()
    np.testing.assert_array_equal(streamed.test.read(7), local.test.images[7])
    assert not storage.fetched("folder/images")
    storage.fs.pipe_file(f"{url}/train/digit 1/0001.png", (folder / "train" / "digit 2" / "0002.png").read_bytes())
    assert ImageFolder(root=url, **SHARES).open().digest != local.digest
    assert len(storage.fetched("folder/images")) == 1, "what changed, and nothing else"


def test_parquet_is_the_same_and_fetched_once(storage: Storage, tmp_path: Path, cifar_rows: pa.Table) -> None:
    for name, start, stop in (("train-0", 0, 150), ("train-1", 150, 300), ("test", 300, 400)):
        (tmp_path / "rows").mkdir(exist_ok=True)
        pq.write_table(cifar_rows.slice(start, stop - start), tmp_path / "rows" / f"{name}.parquet")
    fields = {"image_column": "img"} if "img" in cifar_rows.column_names else {}
    local = Parquet(train=f"{tmp_path}/rows/train-*.parquet", test=f"{tmp_path}/rows/test.parquet", **fields).open()
    url = storage.put(tmp_path / "rows", "rows")
    storage.asked.clear()
    source = Parquet(train=f"{url}/train-*.parquet", test=f"{url}/test.parquet", **fields)
    assert same(local, source.open())
    assert len(set(storage.fetched("rows"))) == 3
    assert not list((tmp_path / "home" / "cache" / "remote").glob("*/*.parquet")), "converted, not kept twice"
    assert same(local, source.open())
    assert not storage.fetched("rows")
    assert same(
        local, Parquet(train=f"file://{tmp_path}/rows/train-*.parquet", test=f"{url}/test.parquet", **fields).open()
    )


def test_a_table_and_its_images_are_the_same_wherever_each_lies(
    storage: Storage, tmp_path: Path, digit_pngs: Images
) -> None:
    root = fill(tmp_path / "table", digit_pngs[:80])
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))

    def table(path: Path, start: str) -> Path:
        path.write_text("path,label\n" + "".join(f"{start}{name},{name.split('/')[0]}\n" for name in names))
        return path

    local = PathTable(train=str(table(root / "list.csv", "")), **SHARES).open()
    url = storage.put(root, "table")
    by_url = table(tmp_path / "urls.csv", f"{url}/")
    storage.asked.clear()
    for source in (
        PathTable(train=f"{url}/list.csv", **SHARES),
        PathTable(train=str(root / "list.csv"), root=url, **SHARES),
        PathTable(train=str(by_url), **SHARES),
        PathTable(train=f"file://{root}/list.csv", root=f"file://{root}", **SHARES),
    ):
        assert same(local, absolute(source).open())
    fetched = storage.fetched("table")
    assert len(fetched) == len(set(fetched)) == 81, "the list and each image, for all of them"
    table(tmp_path / "mixed.csv", f"{url}/").open("a").write("digit 0/0000.png,digit 0\n")
    with pytest.raises(ValueError, match=r"mixed\.csv names images in no URL and s3://bucket; name them all"):
        PathTable(train=str(tmp_path / "mixed.csv")).open()


def test_file_urls_are_paths(tmp_path: Path, digit_pngs: Images) -> None:
    root = fill(tmp_path / "local", digit_pngs)
    assert same(ImageFolder(root=str(root)).open(), absolute(ImageFolder(root=f"file://{root}")).open())


_OPEN = """
import sys
from jobs.data import ImageFolder
print(ImageFolder(root=sys.argv[1], in_memory=False, val_fraction=0.3).open().digest)
"""


@pytest.mark.slow
def test_two_processes_at_once_fetch_once(storage: Storage, folder: Path) -> None:
    url = storage.put(folder, "at once")
    storage.asked.clear()
    command = [sys.executable, "-c", _OPEN, url]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0] and digests[0] == digests[1]
    fetched = storage.fetched("at%20once")
    assert len(fetched) == len(set(fetched)) == 81


def test_another_machine_fetches_what_it_streams(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cifar_rows: pa.Table
) -> None:
    url = storage.put(folder, "streamed")
    pq.write_table(cifar_rows, tmp_path / "rows.parquet")
    storage.fs.pipe_file(f"{BUCKET}/streamed.parquet", (tmp_path / "rows.parquet").read_bytes())
    fields = {"image_column": "img"} if "img" in cifar_rows.column_names else {}
    for source in (
        ImageFolder(root=url, in_memory=False, **SHARES),
        Parquet(train=f"s3://{BUCKET}/streamed.parquet", in_memory=False, **fields),
    ):
        data = source.open()
        first = data.test.read(3)
        travelled = pickle.dumps(data)
        with monkeypatch.context() as there:
            there.setenv("ORCHESTRATOR_HOME", str(tmp_path / f"there {source.kind}"))
            arrived: Data = pickle.loads(travelled)
            storage.asked.clear()
            arrived.here(False)
            fetched = storage.fetched("streamed")
            assert len(fetched) == len(set(fetched)) == (81 if source.kind == "image_folder" else 1)
            np.testing.assert_array_equal(arrived.test.read(3), first)
            assert not storage.fetched("streamed")
            shutil.rmtree(tmp_path / f"there {source.kind}")
            again: Data = pickle.loads(travelled)
            assert isinstance(again.test, Streamed)
            np.testing.assert_array_equal(again.test.read(3), first)


_KILLED = """
import os, signal, sys
import jobs.data.remote as remote
from jobs.data import ImageFolder
remote._AT_ONCE = 20
rest = remote._fetch
def dying(objects, beside, target, what, seen=[]):
    seen.append(1)
    if len(seen) == 3:
        for number in range(20):
            (beside / str(number)).parent.mkdir(parents=True, exist_ok=True)
            (beside / str(number)).write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    rest(objects, beside, target, what)
remote._fetch = dying
ImageFolder(root=sys.argv[1], channels=1, size=16, val_fraction=0.3).open()
"""


def test_what_a_kill_cuts_short_goes_on(storage: Storage, folder: Path) -> None:
    url = storage.put(folder, "killed")
    storage.asked.clear()
    assert subprocess.run([sys.executable, "-c", _KILLED, url], cwd=ROOT).returncode == -9
    first = storage.fetched("killed")
    assert len(set(first)) == 40
    data = ImageFolder(root=url, channels=1, size=16, **SHARES).open()
    assert data.digest == ImageFolder(root=str(folder), channels=1, size=16, **SHARES).open().digest
    assert not set(storage.fetched("killed")) & set(first), "what is there whole is not fetched again"
    assert not list(Path(os.environ["ORCHESTRATOR_HOME"]).glob("cache/remote/.*.part")), "and no halves stay"


def test_what_is_missing_counts_as_an_image_that_cannot_be_read(
    storage: Storage, tmp_path: Path, digit_pngs: Images
) -> None:
    url = storage.put(fill(tmp_path / "some", digit_pngs[:60]), "some")
    rows = [f"{name}/{number:04d}.png,{name}" for number, (name, _) in enumerate(digit_pngs[:60])]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows, "digit 1/gone.png,digit 1"]))
    with pytest.raises(ValueError, match=r"1 of 61 images .*\n  s3://bucket/some/digit 1/gone\.png: No such file"):
        PathTable(train=str(tmp_path / "list.csv"), root=url).open()
    data = PathTable(train=str(tmp_path / "list.csv"), root=url, max_corrupt=1, **SHARES).open()
    assert len(data.train) + len(data.val) + len(data.test) == 60


def test_evaluation_and_weights_take_urls_too(storage: Storage, tmp_path: Path, digit_pngs: Images) -> None:
    model = tiny(tmp_path / "model")
    root = fill(tmp_path / "judged", [("cat", data) for _, data in digit_pngs[:3]])
    fill(root, [("owl", data) for _, data in digit_pngs[3:5]], 3)
    local, remote = (open_labelled(path, model) for path in (str(root), storage.put(root, "judged")))
    np.testing.assert_array_equal(local.split.images, remote.split.images)
    assert remote.names[0] == f"s3://{BUCKET}/judged/cat/0000.png"
    storage.fs.pipe_file(f"{BUCKET}/w/a.safetensors", (tmp_path / "model" / "model.safetensors").read_bytes())
    weights = absolute(FileWeights(path=f"s3://{BUCKET}/w/a.safetensors"))
    assert Path(materialize(weights, model_spec()), "model.json").exists()


def model_spec():
    from jobs.models import CNN

    return CNN(width=4)


def test_every_refusal_names_the_url_and_the_cure(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digit_pngs: Images
) -> None:
    with pytest.raises(ValueError, match=r"data\.root s3://bucket/nowhere cannot be used: there is nothing there"):
        ImageFolder(root="s3://bucket/nowhere").open()
    with pytest.raises(ValueError, match=r"s3://no-such-bucket/x cannot be used: there is no bucket no-such-bucket"):
        ImageFolder(root="s3://no-such-bucket/x").open()
    with pytest.raises(ValueError, match=r"data\.train s3://bucket/nowhere\.csv cannot be used: there is nothing"):
        PathTable(train="s3://bucket/nowhere.csv").open()
    with pytest.raises(ValueError, match=r"data\.train 's3://bucket/none/x.*' names no file; bucket/none has no"):
        Parquet(train="s3://bucket/none/x-*.parquet").open()
    with pytest.raises(ValueError, match=r"torchvision reads files on this machine only"):
        absolute(Torchvision(name="CIFAR10", root="s3://bucket/cifar"))
    for secret in ("s3://who:planted@bucket/x", "https://host/x?X-Amz-Signature=planted"):
        with pytest.raises(ValueError, match="was given with a password, key or signature; leave it out") as caught:
            absolute(ImageFolder(root=secret))
        assert "planted" not in str(caught.value)
    with pytest.raises(ValueError, match=r"gs://b/x needs a package that is missing; .*\[gs\]"):
        ImageFolder(root="gs://b/x").open()
    url = storage.put(fill(tmp_path / "big", digit_pngs[:40]), "big")
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
        with pytest.raises(
            ValueError, match=r"big/?: 0\.0 MB are to be fetched, but the disk of .* has 0\.0 MB free; set"
        ):
            ImageFolder(root=url, channels=1, size=16, **SHARES).open()
    fsspec.filesystem("s3").clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    try:
        with pytest.raises(ValueError, match=r"big cannot be used: there are no credentials; set AWS_ACCESS_KEY_ID"):
            ImageFolder(root=url, **SHARES).open()
    finally:
        fsspec.filesystem("s3").clear_instance_cache()


def test_what_takes_paths_only_says_so() -> None:
    from jobs.predict import image_files
    from orchestrator.init.source import recognise

    with pytest.raises(ValueError, match=r"s3://b/x\.png: predict reads files on this machine"):
        list(image_files(["s3://b/x.png"]))
    with pytest.raises(ValueError, match=r"init looks at images on this machine, not at URLs"):
        recognise(Path("s3://b/x"))

"""Shards in a bucket: the images that were written, in an order of their own, through copies of bounded size."""

from __future__ import annotations

import io
import json
import pickle
import signal
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from jobs.data import Digits, ImageFolder, Parquet, Shards
from jobs.data.cache import cached
from jobs.data.decode import DataError
from jobs.data.loader import Loader
from jobs.data.scan import scan
from jobs.data.sets import Data
from jobs.data.shards.copies import AHEAD
from jobs.data.shards.write import write
from jobs.data.streamed import Streamed
from jobs.place import Place
from jobs.spec import JobSpec
from tests import world
from tests.jobs import digits_job
from tests.jobs.augment.pictures import PHOTOS
from tests.jobs.data.conftest import ROOT, encoded, fill, with_columns
from tests.jobs.test_train import final_weights, furthest, same
from tests.storage import BUCKET, Storage

COUNT, SIZE, SHARD = 60, 32, 24_000
"""Photographs of each of two classes, pixels they are fed as, and about the bytes of a shard."""


def photographs(root: Path) -> Path:
    for name, photo in zip(("china", "flower"), PHOTOS, strict=True):
        for number in range(COUNT):
            image = Image.fromarray(photo.numpy()).crop((number * 3, number, number * 3 + 90, number + 70))
            fill(root, [(name, encoded(image, "JPEG", quality=80))], number)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some ten shards of training images, and those of validation and test."""
    root = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCHESTRATOR_HOME", str(tmp_path_factory.mktemp("home")))
        write(ImageFolder(root=str(folder)), str(root), SHARD)
    return root


def bucket(storage: Storage, written: Path) -> str:
    """Where the shards are in the bucket."""
    url = f"s3://{BUCKET}/shards"
    return url if storage.fs.exists(f"{BUCKET}/shards/index.npz") else storage.put(written, "shards")


def job(root: str, **changes: object) -> JobSpec:
    data = {"kind": "shards", "root": root, "size": SIZE, "lanes": 4, "in_memory": False, "loader_workers": 0}
    augment = [{"kind": "random_resized_crop"}, {"kind": "flip"}]
    return digits_job.job(**{"data": data, "augment": augment, "epochs": 2, "batch_size": 12, **changes})


def loader(spec: JobSpec, data: Data, place: Place | None = None) -> Loader:
    return Loader(spec, data, place or Place(), spec.steps(len(data.train)))


def epoch(feed: Loader, number: int, first: int = 0) -> list[torch.Tensor]:
    return [x for _, parts in feed.epoch(number, first) for _, x, _ in parts]


def needed(feed: Loader, number: int, first: int) -> set[str]:
    """The shards of the images from an update on."""
    visits, split = feed._order(number)[first * feed.spec.batch_size :].numpy(), feed.data.train
    whole = feed.steps.per_epoch * feed.spec.batch_size - first * feed.spec.batch_size
    return {shard.url.rpartition("/")[2] for shard in split.coming(visits[:whole])}


def fetched(storage: Storage) -> list[str]:
    while any(thread.name == AHEAD for thread in threading.enumerate()):
        time.sleep(0.01)
    return [path.rpartition("/")[2] for path in storage.fetched("shards")]


def copies() -> list[Path]:
    return list(cached("shards", "", "").glob("*.copy"))


def held() -> int:
    """Bytes of the copies; one that is deleted meanwhile has none."""
    found = 0
    for path in copies():
        with suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


def test_what_is_opened_is_what_was_written_and_no_shard_is_read(storage: Storage, folder: Path, written: Path) -> None:
    source = Shards(root=bucket(storage, written), size=SIZE, in_memory=False)
    storage.asked.clear()
    data, original = source.open(), ImageFolder(root=str(folder), size=SIZE).open()
    assert fetched(storage) == ["index.npz"]
    assert data.classes == original.classes and data.channels == original.channels == 3
    assert any("shards, 0.3 MB, beginning with s3://" in note and "at most 64.0 GB" in note for note in data.notes), (
        data.notes
    )
    for name in ("train", "val", "test"):
        theirs, ours = getattr(original, name), getattr(data, name)
        assert isinstance(ours, Streamed)
        pixels = sorted(
            (image.tobytes(), int(label)) for image, label in zip(theirs.images, theirs.labels, strict=True)
        )
        read = [(ours.fitted(index, SIZE, 1.0).tobytes(), int(ours.labels[index])) for index in range(len(ours))]
        assert sorted(read) == pixels
    assert source.open().digest == data.digest == Shards(root=str(written), size=SIZE).open().digest
    assert Shards(root=str(written), size=SIZE, lanes=8).open().digest != data.digest, "another order is another run"
    originals = {path.read_bytes() for path in folder.rglob("*.png")}
    for shard in written.glob("*.tar"):
        with tarfile.open(shard) as archive:
            images = [archive.extractfile(each).read() for each in archive if not each.name.endswith(".cls")]
        assert set(images) <= originals, "bytes are unchanged"
        originals -= set(images)
    assert not originals


def test_what_is_known_of_images_is_what_a_pass_over_them_finds(tmp_path: Path) -> None:
    """Grey and colour, turned by EXIF or not, in several formats, and one that is broken."""
    photo, exif = Image.fromarray(PHOTOS[0].numpy()).crop((0, 0, 60, 40)), Image.Exif()
    images = [encoded(photo.convert(mode), "PNG") for mode in ("RGB", "L", "P", "LA")]
    for orientation in (1, 3, 6):
        exif[0x0112] = orientation
        images.append(encoded(photo, "JPEG", exif=exif))
    images += [encoded(photo, "WEBP"), encoded(photo.convert("L"), "JPEG"), b"none"]
    for name in ("a", "b", "c"):
        fill(tmp_path / "set", [(name, image) for image in images])
    source = ImageFolder(root=str(tmp_path / "set"), test_fraction=0.3, val_fraction=0.3)
    write(source, str(tmp_path / "out"), 2**30)
    for turned in (True, False):
        store = Shards(root=str(tmp_path / "out")).stores()[1]["train"]
        store.exif_orientation = turned
        for channels in (1, 3):
            known, found = store.known(channels), scan(_Unknown(store), 40, channels, False)
            np.testing.assert_array_equal(known.shapes[known.good], found.shapes[found.good])
            assert known.errors == found.errors and len(known.errors) >= 1
            rows = known.sums[known.good] / known.area, found.sums[found.good] / 40**2
            np.testing.assert_allclose(*rows, rtol=0.02), "the same squares, of 40 pixels anyway"
    with pytest.raises(
        DataError, match=r"3 of 30 images cannot be read:\n  .*out/train-00000\.tar image \d+: not an im"
    ):
        Shards(root=str(tmp_path / "out"), size=8).open()
    assert len(Shards(root=str(tmp_path / "out"), size=8, max_corrupt=3).open().train) < 30


class _Unknown:
    """A store of which nothing is known."""

    stamp = None

    def __init__(self, store: object) -> None:
        self.store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def __len__(self) -> int:
        return len(self.store)

    def known(self, channels: int) -> None:
        return None


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_batches_do_not_depend_on_processes_ranks_or_where_shards_are(storage: Storage, written: Path) -> None:
    whole: list[torch.Tensor] = []
    for root, workers in ((bucket(storage, written), 2), (str(written), 0)):
        spec = job(root, data__loader_workers=workers)
        data = spec.data.open()
        with closing(loader(spec, data)) as feed:
            batches = [*epoch(feed, 0), *[x for x, _ in feed.scoring(data.val)], *epoch(feed, 1)]
        whole = whole or batches
        assert len(batches) == len(whole) > 10 and all(map(torch.equal, batches, whole))
    assert not all(torch.equal(one, other) for one, other in zip(whole[:5], whole[-5:], strict=True)), "epochs differ"
    spec = job(str(written), resources__workers=2)
    data = spec.data.open()
    halves, scored = [], []
    for rank in range(2):
        with closing(loader(spec, data, Place(rank=rank, world=2))) as feed:
            halves.append(epoch(feed, 0))
            scored += [x for x, _ in feed.scoring(data.val)]
    batches = [torch.cat(pair) for pair in zip(*halves, strict=True)]
    assert all(map(torch.equal, batches, whole[: len(batches)]))
    assert sum(map(len, scored)) == len(data.val)


def test_each_rank_fetches_its_share_and_a_resumed_one_what_is_left(
    storage: Storage, written: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once = {"epochs": 1, "schedule__warmup_epochs": 0}
    spec = job(bucket(storage, written), resources__workers=2, **once)
    data = spec.data.open()
    assert len(data.blocks) > 8
    shares = []
    for rank in range(2):
        monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / f"home of {rank}"))
        fetched(storage)
        with closing(loader(spec, data, Place(rank=rank, world=2))) as feed:
            epoch(feed, 0)
        found = fetched(storage)
        assert len(found) == len(set(found)), "each once"
        shares.append({name for name in found if name.startswith("train")})
    assert len(shares[0] & shares[1]) <= 1 and len(shares[0] | shares[1]) >= len(data.blocks) - 1
    spec = job(bucket(storage, written), **once)
    first = spec.steps(len(data.train)).per_epoch - 2
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home of one that resumes"))
    with closing(loader(spec, data)) as feed:
        left, every = needed(feed, 0, first), needed(feed, 0, 0)
        batches = feed.epoch(0, first)
        next(next(batches)[1])
        found = {name for name in fetched(storage) if name.startswith("train")}
    assert len(left) < len(every) and found <= left, "nothing of what was done"


def test_copies_stay_within_their_budget(storage: Storage, written: Path) -> None:
    """An epoch, an evaluation and an epoch with room for less than a half of the shards."""
    largest = max(path.stat().st_size for path in written.glob("*.tar"))
    spec = job(bucket(storage, written), batch_size=2, data__lanes=1, data__cache_gb=5 * largest / 2**30)
    data = spec.data.open()
    assert sum(path.stat().st_size for path in written.glob("*.tar")) > 2 * 5 * largest
    fetched(storage)
    with closing(loader(spec, data)) as feed:
        for number in range(2):
            for _, parts in feed.epoch(number, 0):
                for _ in parts:
                    assert held() <= 5 * largest
            assert sum(len(labels) for _, labels in feed.scoring(data.val)) == len(data.val)
    found = fetched(storage)
    assert len(found) < 2.2 * len(list(written.glob("*.tar"))), "a shard is fetched once an epoch, or stayed"
    with pytest.raises(
        ValueError, match=r"cache_gb .* does not hold two shards, of 0\.0 MB at most, for each of 32 la"
    ):
        Shards(root=bucket(storage, written), cache_gb=4 * largest / 2**30).open()


def test_shards_are_fetched_before_they_are_needed(storage: Storage, written: Path) -> None:
    data = Shards(root=bucket(storage, written), size=SIZE, in_memory=False).open()
    coming = data.train.coming(np.arange(len(data.train)))
    travelled = pickle.loads(pickle.dumps(data.train))
    travelled.expect(coming, [])
    until = time.monotonic() + 60
    while len(copies()) < len(coming) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(copies()) == len(coming) > 8
    fetched(storage)
    travelled.read(0)
    assert not fetched(storage)
    travelled.expect([], coming[:2])
    assert len(copies()) == len(coming), "what is done stays while there is room"


@pytest.mark.slow
def test_weights_depend_neither_on_workers_nor_on_being_stopped(written: Path, tmp_path: Path) -> None:
    """Two ranks, or one with two parts (sums of gradients differ in the last bit); bit for bit where one is resumed."""
    common = {"epochs": 3, "checkpoint__every_steps": 3, "precision": "fp64", "model__norm": False}
    ways = {"resources.workers": 2}, {"accumulation": 2}
    specs = [job(str(written), **common).override(way) for way in ways]
    runs = [world.run(spec.resources.workers, final_weights, spec.model_dump_json())[0] for spec in specs]
    assert furthest(runs[0]["weights"], runs[1]["weights"]) < 1e-8
    store = str(tmp_path / "checkpoints")
    part = world.run(1, final_weights, specs[1].model_dump_json(), store, 9)[0]
    assert part["ended_by"] == "stopped" and part["step"] < runs[0]["step"]
    rest = world.run(1, final_weights, specs[1].model_dump_json(), store)[0]
    assert rest["step"] == runs[1]["step"] and same(rest["weights"], runs[1]["weights"])


def test_what_is_missing_or_broken_is_named(storage: Storage, written: Path, tmp_path: Path) -> None:
    url, path = storage.put(written, "broken"), f"{BUCKET}/broken"
    source = Shards(root=url, size=SIZE, in_memory=False)
    data = source.open()
    whole = storage.fs.cat_file(f"{path}/train-00001.tar")
    storage.fs.pipe_file(f"{path}/train-00001.tar", whole[:2000] + b"x" + whole[2001:])
    at = int(np.flatnonzero(data.train.store.places[data.train.index] == 1)[0])
    with pytest.raises(
        DataError, match=r"shard s3://bucket/broken/train-00001\.tar does not have the checksum .* again"
    ):
        source.open().train.read(at)
    storage.fs.rm(f"{path}/train-00002.tar")
    with pytest.raises(DataError, match=r"shard s3://bucket/broken/train-00002\.tar cannot be used: there is nothing"):
        data.train.read(int(np.flatnonzero(data.train.store.places[data.train.index] == 2)[0]))
    spec = job(url)
    with closing(loader(spec, data)) as feed, pytest.raises(DataError, match=r"train-0000[12]\.tar"):
        epoch(feed, 0)
    storage.fs.pipe_file(f"{path}/train-00003.tar", whole[:1000])
    with pytest.raises(
        DataError, match=r"broken: 2 of \d+ shards are not as they were written: train-00002\.tar is miss"
    ):
        source.open()
    with pytest.raises(ValueError, match=r"data\.root .* has no index\.npz, so orchestrator shards has not written it"):
        Shards(root=str(tmp_path)).open()
    with pytest.raises(ValueError, match=r"give root .* or train"):
        Shards()
    with pytest.raises(ValueError, match="which shards cannot give; use class_weights: balanced"):
        Shards(root="x", balanced_sampling=True)


def tar(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(path)


def test_shards_of_others_are_read_once(storage: Storage, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "wds").mkdir()
    files = sorted(folder.rglob("*.png"))
    members = [{}, {}, {}]
    for number, file in enumerate(files):
        members[number % 3][f"a/{number:04}.jpg"] = file.read_bytes()
        label = {"label": file.parent.name, "more": 1}
        members[number % 3][f"a/{number:04}.json"] = json.dumps(label).encode()
    for number, each in enumerate(members):
        tar(tmp_path / "wds" / f"part-{number}.tar", each)
    url = storage.put(tmp_path / "wds", "others")
    storage.asked.clear()
    source = Shards(train=f"{url}/part-*.tar", size=SIZE, in_memory=False)
    data, original = source.open(), ImageFolder(root=str(folder), size=SIZE).open()
    assert data.classes == original.classes and len(data.train) == len(original.train)
    assert len(data.blocks) == 3 and data.blocks.sum() == len(data.train)
    assert len(storage.fetched("others")) == 3
    assert source.open().digest == data.digest == Shards(train=f"{url}/part-*.tar", size=SIZE).open().digest
    assert not storage.fetched("others")
    whole = (tmp_path / "wds" / "part-1.tar").read_bytes()
    (tmp_path / "wds" / "part-1.tar").write_bytes(whole[: len(whole) // 2])
    for members, reason in (
        (None, r"shard .*part-1\.tar cannot be read as tar: unexpected end of data; it is damaged"),
        (
            {"7.jpg": files[0].read_bytes()},
            r"shard .*part-1\.tar: 7 has no label: neither a \.cls file nor 'label' in a",
        ),
        ({"7.cls": b"1"}, r"shard .*part-1\.tar: 7 has no image \(read are .*\) in cls; it must have one"),
        ({"7.a.jpg": b"", "7.b.jpg": b"", "7.cls": b"1"}, r"part-1\.tar: 7 has 2 images in a\.jpg, b\.jpg, cls"),
    ):
        if members:
            tar(tmp_path / "wds" / "part-1.tar", members)
        with pytest.raises(DataError, match=reason):
            Shards(train=f"{tmp_path}/wds/part-*.tar").open()
    (tmp_path / "wds" / "x.tar.gz").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"x\.tar\.gz is neither a \.tar nor a \.parquet file; unpack what is compressed"
    ):
        Shards(train=f"{tmp_path}/wds/x.tar.gz").open()


def test_parquet_files_are_shards_too(storage: Storage, tmp_path: Path, cifar_rows: pa.Table) -> None:
    (tmp_path / "rows").mkdir()
    for number in range(3):
        rows = cifar_rows.slice(number * 100, 100)
        pq.write_table(rows, tmp_path / "rows" / f"train-{number}.parquet", row_group_size=30)
    pq.write_table(cifar_rows.slice(300), tmp_path / "rows" / "test.parquet")
    fields = {"image_column": "img"} if "img" in cifar_rows.column_names else {}
    url = storage.put(tmp_path / "rows", "rows of shards")
    paths = {"train": f"{url}/train-*.parquet", "test": f"{url}/test.parquet"}
    ours, theirs = Shards(**paths, **fields).open(), Parquet(**paths, **fields).open()
    assert ours.classes == theirs.classes and ours.blocks.sum() == len(ours.train)
    for name in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(ours, name).images, getattr(theirs, name).images)
    assert (ours.mean, ours.std) == (theirs.mean, theirs.std), "images of their own size: the sums are exact"
    local = Shards(
        train=f"{tmp_path}/rows/train-*.parquet", test=f"{tmp_path}/rows/test.parquet", in_memory=False, **fields
    )
    np.testing.assert_array_equal(local.open().test.read(7), theirs.test.images[7])
    nulls = with_columns(cifar_rows.slice(0, 3), label=pa.array([0, None, 1]))
    pq.write_table(nulls, tmp_path / "rows" / "train-1.parquet")
    with pytest.raises(DataError, match=r"train-1\.parquet row 1: 'label' is null; label the row"):
        local.open()


_KILLED = """
import os, signal, sys
import jobs.data.shards.write as writing
from jobs.data import ImageFolder
rest = writing._shard
def dying(path, name, *more):
    if name == "train-00004.tar":
        open(path, "wb").write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return rest(path, name, *more)
writing._shard = dying
writing.write(ImageFolder(root=sys.argv[1]), sys.argv[2], int(sys.argv[3]))
"""


def test_an_interrupted_writer_is_continued(storage: Storage, folder: Path, written: Path, tmp_path: Path) -> None:
    for out in (str(tmp_path / "out"), f"s3://{BUCKET}/written"):
        command = [sys.executable, "-c", _KILLED, str(folder), out, str(SHARD)]
        assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
        with pytest.raises(ValueError, match=r"has no index\.npz"):
            Shards(root=out).open()
        before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("train-*.tar")}
        storage.asked.clear()
        write(ImageFolder(root=str(folder)), out, SHARD)
        put = {path for method, path in storage.asked if method == "PUT"}
        if out.startswith("s3"):
            there = {path.name: storage.fs.cat_file(f"{out}/{path.name}") for path in written.iterdir()}
            assert "/bucket/written/train-00004.tar" in put and "/bucket/written/train-00003.tar" not in put
        else:
            after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
            assert len(before) == 4 and before.items() <= after.items(), "what is there whole is not written again"
            there = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        for path in written.glob("*.tar"):
            assert there.pop(path.name) == path.read_bytes(), "the same as without the kill"
        assert list(there) == ["index.npz"]
        assert Shards(root=out, size=SIZE).open().digest == Shards(root=str(written), size=SIZE).open().digest
        with pytest.raises(
            ValueError, match=r"holds finished shards \(index\.npz\); give another folder, or delete it"
        ):
            write(ImageFolder(root=str(folder)), out, SHARD)


def test_any_source_can_be_written(tmp_path: Path) -> None:
    write(Digits(), str(tmp_path / "digits"), 2**18)
    ours, theirs = Shards(root=str(tmp_path / "digits")).open(), Digits().open()
    assert (
        len(ours.blocks) > 2 and ours.classes == theirs.classes and (ours.mean, ours.std) == (theirs.mean, theirs.std)
    )
    for name in ("train", "val", "test"):
        pixels = [sorted(image.tobytes() for image in getattr(data, name).images) for data in (ours, theirs)]
        assert pixels[0] == pixels[1]
    again = Shards(root=str(tmp_path / "digits"))
    write(again, str(tmp_path / "again"), 2**16)
    assert len(Shards(root=str(tmp_path / "again")).open().blocks) > 8

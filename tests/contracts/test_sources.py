"""Every data source keeps its promises: what it opens, the same everywhere, and what it says of what is not."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from jobs.data import DataSpec, Digits, ImageFolder, Parquet, PathTable, Shards, Synthetic, Torchvision
from jobs.data.identity import OtherDataError, check_same, identity
from jobs.data.loader import Loader
from jobs.data.sets import Data
from jobs.data.streamed import Streamed
from jobs.place import Place
from tests.jobs.digits_job import job

CLASSES, EACH, SIZE = ("ant", "bee", "cat"), 20, 8


def image(label: int, number: int) -> bytes:
    pixels = np.random.default_rng([label, number]).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def folder(root: Path) -> Path:
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(EACH):
            (root / name / f"{number:02d}.png").write_bytes(image(label, number))
    return root


def rows(root: Path, broken: bool = False) -> str:
    images = [{"bytes": image(label, number), "path": None} for label in range(3) for number in range(EACH)]
    images[7] = {"bytes": b"", "path": None} if broken else images[7]
    table = pa.table({"image": images, "label": [label for label in range(3) for _ in range(EACH)]})
    root.mkdir(exist_ok=True)
    pq.write_table(table, root / "p.parquet")
    return str(root / "p.parquet")


def table(root: Path) -> str:
    names = [f"{name}/{number:02d}.png,{name}" for name in CLASSES for number in range(EACH)]
    (root / "t.csv").write_text("\n".join(["path,label", *names]))
    return str(root / "t.csv")


def tars(root: Path, broken: bool = False) -> str:
    root.mkdir(exist_ok=True)
    for shard in range(4):
        with tarfile.open(root / f"{shard}.tar", "w") as archive:
            for number in range(shard * 15, shard * 15 + 15):
                data = b"" if broken and number == 7 else image(number % 3, number // 3)
                for name, content in ((f"{number}.png", data), (f"{number}.cls", CLASSES[number % 3].encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return str(root / "*.tar")


def spoil_tar(root: Path) -> None:
    tars(root, broken=True)


def spoil_file(root: Path) -> None:
    (root / "ant" / "07.png").write_bytes(b"")


def spoil_rows(root: Path) -> None:
    rows(root, broken=True)


MAKE: dict[str, Callable[[Path], Any]] = {
    "digits": lambda root: Digits(),
    "image_folder": lambda root: ImageFolder(root=str(folder(root))),
    "parquet": lambda root: Parquet(train=rows(root)),
    "table": lambda root: PathTable(train=table(folder(root))),
    "shards": lambda root: Shards(train=tars(root), lanes=2),
    "synthetic": lambda root: Synthetic(classes=3, samples=60, size=SIZE),
    "torchvision": lambda root: Torchvision(name="ImageFolder", root=str(folder(root))),
}
SPOIL: dict[str, Callable[[Path], None]] = {
    "image_folder": spoil_file,
    "parquet": spoil_rows,
    "shards": spoil_tar,
    "table": spoil_file,
    "torchvision": spoil_file,
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))


def test_all_members_are_here() -> None:
    union = get_args(get_args(DataSpec)[0])
    assert {member.model_fields["kind"].default for member in union} == set(MAKE)


def pixels(data: Data, split: str) -> list[bytes]:
    return [image.tobytes() for image in getattr(data, split).images]


@pytest.mark.parametrize("kind", MAKE)
def test_splits_are_disjoint_and_stratified(kind: str, tmp_path: Path) -> None:
    source = MAKE[kind](tmp_path / "set")
    assert TypeAdapter(DataSpec).validate_json(source.model_dump_json()) == source
    data = source.open()
    parts = {split: pixels(data, split) for split in ("train", "val", "test")}
    every = [each for part in parts.values() for each in part]
    assert len(every) == len(set(every)), "an image is in two splits, or twice in one"
    counts = {split: np.bincount(getattr(data, split).labels, minlength=len(data.classes)) for split in parts}
    total = sum(counts.values())
    assert total.sum() == len(every)
    assert np.abs(counts["test"] - source.test_fraction * total).max() <= 1
    assert np.abs(counts["val"] - source.val_fraction * (total - counts["test"])).max() <= 1
    other = source.model_copy(update={"split_seed": 1}).open()
    assert sorted(every) == sorted(each for split in parts for each in pixels(other, split))
    assert other.digest != data.digest


@pytest.mark.parametrize("kind", MAKE)
def test_only_the_same_data_are_resumed_on(kind: str, tmp_path: Path) -> None:
    source = MAKE[kind](tmp_path / "set")
    data = source.open()
    kept = json.loads(json.dumps(identity(data)))
    assert check_same(kept, source.open()) == ""
    with pytest.raises(OtherDataError, match="is of other images"):
        check_same(kept, source.model_copy(update={"split_seed": 1}).open())
    if kind in SPOIL:
        SPOIL[kind](tmp_path / "set")
        with pytest.raises(OtherDataError, match=r"(train|val|test) has \d+ images, it had \d+"):
            check_same(kept, source.model_copy(update={"max_corrupt": 1}).open())


@pytest.mark.slow
def test_another_process_finds_the_same_digests(tmp_path: Path) -> None:
    """Without the cache of this one."""
    sources = {kind: make(tmp_path / kind) for kind, make in MAKE.items()}
    code = (
        "import json, sys; from pydantic import TypeAdapter; from jobs.data import DataSpec\n"
        "read = TypeAdapter(DataSpec).validate_python\n"
        "print(json.dumps({kind: read(spec).open().digest for kind, spec in json.load(sys.stdin).items()}))"
    )
    specs = json.dumps({kind: source.model_dump(mode="json") for kind, source in sources.items()})
    environment = {**os.environ, "ORCHESTRATOR_HOME": str(tmp_path / "other"), "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], input=specs, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {kind: source.open().digest for kind, source in sources.items()}


@pytest.mark.parametrize("kind", MAKE)
def test_loader_processes_and_memory_change_no_pixel(kind: str, tmp_path: Path) -> None:
    source = MAKE[kind](tmp_path / "set")
    memory = source.open()
    fed = []
    for workers in (None, 0, 2):
        data = memory if workers is None else source.model_copy(update={"in_memory": False}).open()
        assert data.digest == memory.digest and isinstance(data.val, Streamed) == (workers is not None)
        spec = job(data=source.model_copy(update={"loader_workers": workers}).model_dump(mode="json"), batch_size=8)
        with closing(Loader(spec, data, Place(), spec.steps(len(data.train)))) as loader:
            fed.append([torch.cat(parts) for parts in zip(*loader.scoring(data.val), strict=True)])
    for images, labels in fed[1:]:
        assert torch.equal(images, fed[0][0]) and torch.equal(labels, fed[0][1])


@pytest.mark.parametrize("kind", MAKE)
def test_images_are_the_same_whatever_is_checked(kind: str, tmp_path: Path) -> None:
    full = MAKE[kind](tmp_path / "set").model_copy(update={"mean": (0.5,) * 3, "std": (0.5,) * 3, "channels": 3})
    one = full.open()
    for in_memory in (True, False):
        other = full.model_copy(update={"check": "sizes", "in_memory": in_memory}).open()
        assert other.check == ("sizes" if other.listed else "full")
        assert (check_same(identity(one), other) != "") == bool(other.listed)
        for split in ("train", "val", "test"):
            these, those = getattr(one, split), getattr(other, split)
            assert np.array_equal(these.labels, those.labels)
            read = (lambda at, those=those: those.images[at]) if in_memory else those.read
            assert all(np.array_equal(these.images[at], read(at)) for at in range(len(these)))


@pytest.mark.parametrize("kind", SPOIL)
def test_corrupt_images_are_named_and_counted(kind: str, tmp_path: Path) -> None:
    source = MAKE[kind](tmp_path / "set")
    SPOIL[kind](tmp_path / "set")
    with pytest.raises(ValueError, match=r"1 of 60 images cannot be read:\n  .*(07\.png|row 7|image 7).*: ") as caught:
        source.open()
    assert "max_corrupt (now 0) to 1" in str(caught.value)
    data = source.model_copy(update={"max_corrupt": 1}).open()
    assert sum(len(split) for split in (data.train, data.val, data.test)) == 59
    assert sum("skipped 1 image" in note for note in data.notes) == 1

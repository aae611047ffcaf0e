"""init and shards: what their index knows is enough, wherever they are."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from jobs.data import ImageFolder, Shards
from jobs.data.shards.write import write
from orchestrator.init.source import recognise
from tests.orchestrator.init.steps import Make, chosen, looked, said, search
from tests.orchestrator.real import orchestrator
from tests.storage import Storage


@pytest.fixture
def images(make: Make) -> Path:
    """Uneven classes, one image twice, one broken."""
    root = make("pics", zero=150, one=120, two=8)
    (root / "one" / "copy.png").write_bytes(sorted((root / "one").iterdir())[3].read_bytes())
    (root / "zero" / "broken.png").write_bytes(b"")
    return root


@pytest.mark.parametrize("remote", [False, True])
def test_shards_that_were_written_are_looked_at_by_their_index(
    images: Path, tmp_path: Path, remote: bool, storage: Storage
) -> None:
    write(ImageFolder(root=str(images), test_fraction=0.25, val_fraction=0.25), str(tmp_path / "shards"), 20_000)
    root = storage.put(tmp_path / "shards", "init") if remote else str(tmp_path / "shards")
    source, notes = recognise(root)
    assert source == Shards(root=root) and not notes
    storage.asked.clear()
    found, whole = looked(root), looked(images)
    assert not any(path.endswith(".tar") for path in storage.fetched("init")), "no shard is fetched"
    assert sorted(found.look.sizes.tolist()) == sorted(whole.look.sizes.tolist())
    assert (found.look.count, found.look.kinds["grey"]) == (280, whole.look.kinds["grey"])
    assert len(found.look.errors) == found.corrupt == 1 and len(found.look.copies) == 1
    text = said(found)
    assert "1 image cannot be read" in text and "byte for byte" in text and "decoded, and all" not in text
    spec = chosen(found, tmp_path)
    assert (spec.data.kind, spec.data.root, spec.data.max_corrupt) == ("shards", root, 1)
    assert not spec.data.prepare and spec.data.size == whole.size
    assert search(found, tmp_path).base().data.root == root


def test_very_uneven_classes_are_weighted(make: Make, tmp_path: Path) -> None:
    write(ImageFolder(root=str(make("pics", three=6, two=150))), str(tmp_path / "shards"), 20_000)
    found = looked(tmp_path / "shards")
    assert found.ratio > 20 and "weights the classes" in said(found)
    spec = chosen(found, tmp_path)
    assert spec.data.class_weights == "balanced" and not spec.data.balanced_sampling


def others(folder: Path, images: Path, *names: str) -> Path:
    """Tar files of others, each with all images."""
    folder.mkdir()
    for name in names:
        with tarfile.open(folder / name, "w") as archive:
            for number, path in enumerate(sorted(images.glob("*/*.png"))):
                label = folder.parent / "label"
                label.write_text(path.parent.name)
                archive.add(path, f"{number:05}.png")
                archive.add(label, f"{number:05}.cls")
    return folder


def test_tar_files_of_others(make: Make, tmp_path: Path) -> None:
    images = make("pics", zero=30, one=30)
    folder = others(tmp_path / "a", images, "x0.tar", "x1.tar")
    assert recognise(folder)[0] == Shards(train=(str(folder / "*.tar"),))
    assert recognise(folder / "x0.tar")[0] == Shards(train=str(folder / "x0.tar"))
    found = looked(folder)
    assert found.look.count == 120 and found.drawn == ("val", "test") and len(found.look.copies) == 60
    assert chosen(found, tmp_path).data.test_fraction == found.source.test_fraction
    folder = others(tmp_path / "b", images, "train-0.tar", "train-1.tar", "val-0.tar")
    assert recognise(folder)[0] == Shards(train=(str(folder / "train*.tar"),), test=(str(folder / "val-0.tar"),))
    assert looked(folder).parts["test"] == 60
    (folder / "train.csv").write_text("path,label\nx.png,a\n")
    with pytest.raises(ValueError, match="no columns there name files that exist"):
        recognise(folder)
    others(images / "archives", images, "x.tar").rename(images / "x.tar.d")
    (images / "x.tar.d" / "x.tar").rename(images / "x.tar")
    (images / "x.tar.d").rmdir()
    assert recognise(images)[0] == ImageFolder(root=str(images)), "an archive beside class folders"


@pytest.mark.slow
def test_the_command_takes_a_url(images: Path, tmp_path: Path, storage: Storage) -> None:
    write(ImageFolder(root=str(images), test_fraction=0.25, val_fraction=0.25), str(tmp_path / "shards"), 20_000)
    root = storage.put(tmp_path / "shards", "set")
    done = orchestrator("init", root, "-o", str(tmp_path / "x.yaml"), "--pretrained", "none")
    assert done.returncode == 0, done.stderr
    assert f"root: {root}" in (tmp_path / "x.yaml").read_text()
    planned = orchestrator("plan", str(tmp_path / "x.yaml"))
    assert planned.returncode == 0, planned.stderr
    done = orchestrator("init", f"{root}/none", "-o", str(tmp_path / "y.yaml"))
    assert done.returncode != 0 and "unless orchestrator shards wrote them there" in done.stderr

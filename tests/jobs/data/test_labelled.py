"""Labelled images from outside, held against a model's classes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.data.labelled import open_labelled
from jobs.data.sets import Arrays
from jobs.models import LoadedModel
from tests.jobs.models.tiny import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Cat, dog, owl; 16 pixels, colour."""
    return tiny(tmp_path_factory.mktemp("labelled"))


def encoded(colour: str, size: tuple[int, int] = (16, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def folder(root: Path, **classes: list[str]) -> Path:
    """A picture for each colour of each class."""
    for name, colours in classes.items():
        (root / name).mkdir(parents=True)
        for number, colour in enumerate(colours):
            (root / name / f"{number}.png").write_bytes(encoded(colour, (20, 30)))
    return root


def parquet(path: Path, labels: list[int], names: list[str] | None, image: str = "image") -> Path:
    rows = [{"bytes": encoded("red"), "path": None} for _ in labels]
    table = pa.table({image: rows, "label": labels})
    if names:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path)
    return path


def test_class_folders_get_the_model_s_numbers_and_its_size(tmp_path: Path, model: LoadedModel) -> None:
    root = folder(tmp_path / "set", owl=["red", "lime"], cat=["blue"])
    (root / "cat" / "notes.txt").touch()
    (root / "stray.png").write_bytes(encoded("red"))
    found = open_labelled(str(root), model)
    assert isinstance(found.split, Arrays)
    assert found.split.labels.tolist() == [0, 2, 2]
    assert found.split.images.shape == (3, 16, 16, 3)
    assert found.split.images[:, 8, 8].tolist() == [[0, 0, 255], [255, 0, 0], [0, 255, 0]]
    assert [Path(name).parent.name for name in found.names] == ["cat", "owl", "owl"]
    notes = " | ".join(found.notes)
    assert "1 files passed over" in notes
    assert "1 images are in no class folder and were left out: stray.png" in notes
    assert "no images of 1 of the 3 classes: dog" in notes


def test_unknown_classes_are_named_and_splits_recognised(tmp_path: Path, model: LoadedModel) -> None:
    with pytest.raises(ValueError, match=r"no classes of the model: cow, pig; its classes are cat, dog, owl\. Rename"):
        open_labelled(str(folder(tmp_path / "set", cat=["red"], pig=["red"], cow=["red"])), model)
    folder(tmp_path / "split" / "test", cat=["red"])
    with pytest.raises(ValueError, match=r"Test look like splits: give one of them, .*split/test"):
        open_labelled(str(tmp_path / "split"), model)


def test_broken_images_are_refused_by_name_unless_allowed_for(tmp_path: Path, model: LoadedModel) -> None:
    root = folder(tmp_path / "set", cat=["red", "lime"], dog=["blue"])
    (root / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=r"(?s)1 of 3 images cannot be read:\n  .*cat/0\.png: not an image.*max-corrupt"
    ):
        open_labelled(str(root), model)
    found = open_labelled(str(root), model, max_corrupt=1)
    assert found.split.labels.tolist() == [0, 1]
    assert [Path(line.split(":")[0]).name for line in found.skipped] == ["0.png"]
    assert [Path(name).name for name in found.names] == ["1.png", "0.png"]


def test_huge_images_are_refused_as_in_training(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "set", cat=["red"], dog=["red"])
    (root / "dog" / "0.png").write_bytes(encoded("red", (200, 200)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(ValueError, match=r"dog/0\.png: DecompressionBombError"):
        open_labelled(str(root), model)


def test_parquet_labels_go_by_name(tmp_path: Path, model: LoadedModel) -> None:
    path = parquet(tmp_path / "a.parquet", [0, 1, 1], ["owl", "cat", "cow"])
    assert open_labelled(str(path), model).split.labels.tolist() == [2, 0, 0]
    with pytest.raises(ValueError, match="classes that the model does not know: cow"):
        open_labelled(str(parquet(tmp_path / "b.parquet", [2], ["owl", "cat", "cow"])), model)
    numbers = open_labelled(str(parquet(tmp_path / "c.parquet", [2, 0], None)), model)
    assert numbers.split.labels.tolist() == [2, 0]
    assert "the files name no classes" in numbers.notes[0]
    with pytest.raises(ValueError, match=r"row 1: label 3 is not in 0 \.\. 2"):
        open_labelled(str(parquet(tmp_path / "d.parquet", [0, 3], None)), model)


def test_parquet_folders_globs_and_columns(tmp_path: Path, model: LoadedModel) -> None:
    for name in ("part-0", "part-1"):
        parquet(tmp_path / f"{name}.parquet", [0, 1], None, "img")
    for path in (str(tmp_path), f"{tmp_path}/part-*.parquet"):
        found = open_labelled(path, model, columns=("img", "label"))
        assert len(found.split) == 4
        assert "2 files" in found.notes[0]
    with pytest.raises(ValueError, match="no column 'image'"):
        open_labelled(str(tmp_path), model)
    parquet(tmp_path / "train.parquet", [0], None)
    parquet(tmp_path / "test-00000-of-00001.parquet", [0], None)
    with pytest.raises(ValueError, match="has several splits"):
        open_labelled(str(tmp_path), model)


def test_nothing_labelled_is_said(tmp_path: Path, model: LoadedModel) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="empty has no labelled images"):
        open_labelled(str(tmp_path / "empty"), model)
    with pytest.raises(ValueError, match="is no folder of class folders"):
        open_labelled(str(tmp_path / "nowhere"), model)


def test_the_order_of_a_streamed_set_is_that_in_memory(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "set", cat=["red", "lime"], dog=["blue"])
    kept = open_labelled(str(root), model).split
    monkeypatch.setattr("jobs.data.labelled.MEMORY_BYTES", 0)
    streamed = open_labelled(str(root), model).split
    assert isinstance(kept, Arrays)
    assert not isinstance(streamed, Arrays)
    assert np.array_equal(streamed.read(2)[8, 8], kept.images[2, 8, 8])
    assert streamed.labels.tolist() == kept.labels.tolist()


def test_a_table_names_images_and_their_classes(tmp_path: Path, model: LoadedModel) -> None:
    folder(tmp_path / "set", owl=["red", "lime"], cat=["blue"])
    rows = [("set/owl/0.png", "owl"), ("set/owl/1.png", "owl"), ("set/cat/0.png", "cat")]
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"{path},{name}\n" for path, name in rows))
    pq.write_table(pa.table({"file": [r[0] for r in rows], "kind": [r[1] for r in rows]}), tmp_path / "t.parquet")
    for found in (
        open_labelled(str(tmp_path / "t.csv"), model),
        open_labelled(str(tmp_path / "t.parquet"), model, columns=("file", "kind")),
    ):
        assert found.split.labels.tolist() == [2, 2, 0]
        assert [Path(name).name for name in found.names] == ["0.png", "1.png", "0.png"]
        assert any("no images of 1 of the 3 classes: dog" in note for note in found.notes)
    (tmp_path / "t.csv").write_text("path,label\nset/owl/0.png,mouse\n")
    with pytest.raises(ValueError, match="classes that the model does not know: mouse; its classes are cat, dog, owl"):
        open_labelled(str(tmp_path / "t.csv"), model)
    with pytest.raises(ValueError, match=r"no column 'image' \(--image-column\)"):
        open_labelled(str(parquet(tmp_path / "p.parquet", [0], None, image="picture")), model)

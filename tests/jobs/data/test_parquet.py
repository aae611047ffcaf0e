import json
import pickle
import shutil
import sys

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from jobs.data import ImageFolder, Parquet, parquet
from jobs.data.decode import decode, pixels
from jobs.paths import absolute
from tests.jobs.data.conftest import with_columns

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def files(tmp_path, cifar_rows):
    """The folder with train.parquet (300 rows) and test.parquet (100 rows)."""
    pq.write_table(cifar_rows.slice(0, 300), tmp_path / "train.parquet")
    pq.write_table(cifar_rows.slice(300), tmp_path / "test.parquet")
    return tmp_path


def spec(files, **fields):
    paths = {"train": str(files / "train.parquet"), "test": str(files / "test.parquet")}
    return Parquet(**{**paths, "val_fraction": 0.2, **fields})


def rewrite(path, table):
    pq.write_table(table, path)


def test_a_slice_of_cifar10_opens(cifar10_parquet):
    data = Parquet(train=str(cifar10_parquet / "train.parquet"), test=str(cifar10_parquet / "test.parquet")).open()
    assert (len(data.train), len(data.val), len(data.test)) == (1800, 200, 600)
    assert (data.classes, data.size, data.channels, data.notes) == (NAMES, 32, 3, ())
    every = np.bincount(data.train.labels) + np.bincount(data.val.labels)
    assert abs(np.bincount(data.val.labels) - every / 10).max() < 1  # stratified
    # the published figures of all original pixels are 0.4914 0.4822 0.4465 and 0.2470 0.2435 0.2616
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-2)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-2)


def test_rows_come_back_in_order(files, cifar_rows):
    data = spec(files).open()
    rows = cifar_rows.slice(300).to_pylist()
    assert data.test.labels.tolist() == [row["label"] for row in rows]
    for image, row in zip(data.test.images, rows, strict=True):
        assert np.array_equal(image, pixels(decode(row["image"]["bytes"]), 3))


def test_stream_reads_from_the_mapped_file(files, home):
    memory, stream = spec(files).open(), spec(files, in_memory=False).open()
    assert memory.digest == stream.digest
    assert len(list(home.glob("cache/arrow/*.arrow"))) == 2
    there = pickle.loads(pickle.dumps(stream))
    shutil.rmtree(home / "cache")  # as on another node
    for split in ("train", "val", "test"):
        one, other = getattr(memory, split), getattr(there, split)
        assert np.array_equal(one.images, np.stack([other.read(index) for index in range(len(other))]))
        assert np.array_equal(one.labels, other.labels)


def test_a_broken_arrow_file_is_made_again(files, home):
    digest = spec(files).open().digest
    for path in home.glob("cache/arrow/*.arrow"):
        path.write_bytes(path.read_bytes()[:1000])
    assert spec(files).open().digest == digest


def test_globs_lists_and_urls(files, cifar_rows):
    whole = spec(files).open()
    for part in range(3):
        pq.write_table(cifar_rows.slice(part * 100, 100), files / f"part-{part}.parquet")
    assert spec(files, train=str(files / "part-*.parquet")).open().digest == whole.digest
    listed = [str(files / f"part-{part}.parquet") for part in range(3)]
    assert spec(files, train=listed).open().digest == whole.digest
    assert spec(files, train=listed[::-1]).open().digest != whole.digest
    memory = fsspec.filesystem("memory")
    for name in ("train", "test"):
        memory.pipe(f"/bucket/{name}.parquet", (files / f"{name}.parquet").read_bytes())
    urls = {"train": "memory://bucket/tr*.parquet", "test": "memory://bucket/test.parquet"}
    assert spec(files, **urls).open().digest == whole.digest
    assert absolute(spec(files, **urls)) == spec(files, **urls)


def test_it_equals_an_image_folder_of_the_same_images(files, cifar_rows, tmp_path):
    order = np.argsort(cifar_rows["label"].to_numpy(), kind="stable")
    for split, rows in {"train": order[order < 300], "test": order[order >= 300]}.items():
        pq.write_table(cifar_rows.take(rows), files / f"{split}.parquet")
        for row in rows:
            folder = tmp_path / "folder" / split / NAMES[cifar_rows["label"][int(row)].as_py()]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{row:04d}.jpg").write_bytes(cifar_rows["image"][int(row)].as_py()["bytes"])
    assert ImageFolder(root=str(tmp_path / "folder"), val_fraction=0.2).open().digest == spec(files).open().digest


def test_a_rewritten_file_is_noticed(files, cifar_rows):
    before = spec(files).open()
    rewrite(files / "test.parquet", cifar_rows.slice(250, 150))
    after = spec(files).open()
    assert (len(before.test), len(after.test)) == (100, 150)
    assert after.digest != before.digest


def test_val_files_are_the_validation_split(files):
    data = spec(files, val=str(files / "test.parquet")).open()
    assert (len(data.train), len(data.val)) == (300, 100)
    assert "100 images of test are also in val, byte for byte" in data.notes


def test_without_test_files_a_share_of_train_is_held_out(files):
    data = spec(files, test=None).open()
    assert (len(data.train), len(data.val), len(data.test)) == (192, 48, 60)


def test_plain_binary_columns_by_other_names(files, cifar_rows):
    images = cifar_rows["image"].combine_chunks().field("bytes")
    table = pa.table({"img": images, "fine": cifar_rows["label"].cast(pa.uint8())})
    rewrite(files / "train.parquet", table.slice(0, 300))
    rewrite(files / "test.parquet", table.slice(300))
    data = spec(files, image_column="img", label_column="fine").open()
    assert data.classes == tuple("0123456789")
    assert any("name no classes" in note for note in data.notes)
    with pytest.raises(ValueError, match=r"no column 'image' .*columns are img, fine; did you mean 'img'\?"):
        spec(files).open()


def test_class_names_in_the_form_of_dataset_cards(files, cifar_rows):
    names = {str(number): name.upper() for number, name in reversed(list(enumerate(NAMES)))}
    card = json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}})
    for split, table in {"train": cifar_rows.slice(0, 300), "test": cifar_rows.slice(300)}.items():
        rewrite(files / f"{split}.parquet", table.replace_schema_metadata({"huggingface": card}))
    assert spec(files).open().classes == tuple(name.upper() for name in NAMES)


def test_null_and_damaged_bytes_are_corrupt_images(files, cifar_rows):
    images = cifar_rows["image"].slice(300).to_pylist()
    images[3]["bytes"], images[7]["bytes"], images[9] = None, images[7]["bytes"][:200], None
    column = pa.array(images, cifar_rows.schema.field("image").type)
    rewrite(files / "test.parquet", with_columns(cifar_rows.slice(300), image=column))
    with pytest.raises(ValueError, match="3 of 400 images cannot be read") as caught:
        spec(files).open()
    assert f"test.parquet row 3 ({images[3]['path']}): zero bytes" in str(caught.value)
    assert "test.parquet row 7" in str(caught.value)
    assert "test.parquet row 9: zero bytes" in str(caught.value)
    assert len(spec(files, max_corrupt=3).open().test) == 97


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            lambda label: np.where(label == 4, 12, label),
            r"train.parquet row 10: label 12 is not in 0 .. 9 \(and 37 more",
        ),
        (lambda label: np.full_like(label, -1), r"row 0: label -1 is not in 0 .. 9 \(and 299 more"),
        (lambda label: np.where(label == 4, 5, label), r"\[4\] \(deer\) have no images in train"),
    ],
)
def test_wrong_labels_are_named(files, cifar_rows, change, error):
    train = cifar_rows.slice(0, 300)
    rewrite(files / "train.parquet", with_columns(train, label=pa.array(change(train["label"].to_numpy()))))
    with pytest.raises(ValueError, match=error):
        spec(files).open()


def test_sparse_labels_without_names_are_refused(files, cifar_rows):
    table = with_columns(cifar_rows, label=pa.array(cifar_rows["label"].to_numpy() * 10)).replace_schema_metadata()
    rewrite(files / "train.parquet", table)
    rewrite(files / "test.parquet", table)
    with pytest.raises(
        ValueError, match=r"of labels 0 to 90, .*have no images in train; number the classes without gaps"
    ):
        spec(files).open()


def test_labels_may_be_names(files, cifar_rows):
    def named(rows, names=NAMES):
        return with_columns(rows, label=pa.array([names[label] for label in rows["label"].to_pylist()]))

    rewrite(files / "train.parquet", named(cifar_rows.slice(0, 300)))
    rewrite(files / "test.parquet", named(cifar_rows.slice(300)))
    data = spec(files).open()
    assert data.classes == tuple(sorted(NAMES))
    assert [data.classes[label] for label in data.test.labels] == [
        NAMES[n] for n in cifar_rows["label"][300:].to_pylist()
    ]
    again = spec(files).open()
    assert again.digest == data.digest
    rewrite(files / "test.parquet", named(cifar_rows.slice(300), [*NAMES[:9], "lorry"]))
    with pytest.raises(ValueError, match="test has classes that train has not: lorry; known are airplane"):
        spec(files).open()


def test_brackets_in_a_path_are_meant_as_they_are(files, tmp_path, cifar_rows):
    odd = tmp_path / "v[1]"
    odd.mkdir()
    for name in ("x.parquet", "x*.parquet", "x1.parquet"):
        pq.write_table(cifar_rows, odd / name)
    assert [parquet.files("data.train", str(odd / name)) for name in ("x.parquet", "x*.parquet")] == [
        [str(odd / "x.parquet")],
        [str(odd / "x*.parquet")],
    ]
    with pytest.raises(ValueError, match=r"names no file; .*v\[1\] has x\*.parquet, x.parquet, x1.parquet"):
        parquet.files("data.train", str(odd / "none.parquet"))


def test_two_columns_of_one_name_are_refused(files, cifar_rows):
    columns = [cifar_rows["image"], cifar_rows["label"], cifar_rows["label"]]
    rewrite(files / "train.parquet", pa.Table.from_arrays(columns, ["image", "label", "label"]))
    with pytest.raises(ValueError, match="2 columns are called 'label'; rename all but one"):
        spec(files).open()


def test_null_labels_and_labels_of_other_kinds_are_refused(files, cifar_rows):
    labels = cifar_rows["label"].slice(0, 300).to_pylist()
    labels[130] = None
    rewrite(files / "train.parquet", with_columns(cifar_rows.slice(0, 300), label=pa.array(labels)))
    with pytest.raises(ValueError, match=r"train.parquet row 130: 'label' is null"):
        spec(files).open()
    for values in (pa.array([0.5] * 300), pa.array([[1, 0]] * 300), pa.array([True] * 300)):
        rewrite(files / "train.parquet", with_columns(cifar_rows.slice(0, 300), label=values))
        with pytest.raises(ValueError, match=r"column 'label' is .*; labels are whole numbers, .* or names"):
            spec(files).open()
    paths = pa.array(["a.png"] * 300)
    rewrite(files / "train.parquet", with_columns(cifar_rows.slice(0, 300), image=paths))
    with pytest.raises(ValueError, match="where it holds paths, kind: table reads them"):
        spec(files).open()
    with pytest.raises(ValueError, match="column 'label' is int64, not struct<bytes"):
        spec(files, train=str(files / "test.parquet"), image_column="label").open()


def test_splits_that_name_other_classes_are_refused(files, cifar_rows):
    card = json.dumps({"info": {"features": {"label": {"names": [*NAMES[:9], "lorry"]}}}})
    rewrite(files / "test.parquet", cifar_rows.slice(300).replace_schema_metadata({"huggingface": card}))
    with pytest.raises(ValueError, match=r"splits name different classes: .*truck.*lorry"):
        spec(files).open()


def test_files_that_are_not_there_or_not_parquet(files):
    with pytest.raises(
        ValueError, match=r"data.test .*tset.parquet' names no file; .* has test.parquet, train.parquet"
    ):
        spec(files, test=str(files / "tset.parquet")).open()
    with pytest.raises(ValueError, match=r"data.train .*x-\*.parquet' names no file"):
        spec(files, train=str(files / "x-*.parquet")).open()
    (files / "test.parquet").write_text("a text")
    with pytest.raises(ValueError, match=r"test.parquet cannot be read as Parquet"):
        spec(files).open()


def test_one_place_is_named():
    for fields, error in (
        ({"train": "a", "hub": "cifar10"}, "not both"),
        ({}, "give train"),
        ({"train": "a", "val": "b"}, "val is given but not test"),
    ):
        with pytest.raises(ValidationError, match=error):
            Parquet(**fields)


def test_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    made = absolute(Parquet(train=["a/*.parquet", "s3://bucket/b.parquet"], test="~/c.parquet"))
    assert made.train == (f"{tmp_path}/a/*.parquet", "s3://bucket/b.parquet")
    assert made.test == "/home/me/c.parquet"
    assert Parquet.model_validate_json(made.model_dump_json()) == made


def test_a_hub_name_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'image-classification-orchestrator\[hub\]'"):
        Parquet(hub="cifar10").open()

"""Real formats whose files can be written here: idx files (``train=``), folders (``split=``, or no splits at all)."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jobs.data import Torchvision
from jobs.paths import absolute
from tests.jobs.data.conftest import encoded, fill

RAW = load_digits()
PIXELS = np.rint(RAW.images * (255 / 16)).astype(np.uint8)
LABELS = RAW.target


def idx(array):
    """LeCun's idx format: 0, 0, type 8 (unsigned byte), number of dimensions; big-endian sizes; the bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


def labelled(part):
    """Some digits as ``(class name, PNG)``."""
    return [(str(n), encoded(Image.fromarray(x))) for x, n in zip(PIXELS[part], LABELS[part], strict=True)]


@pytest.fixture
def mnist(tmp_path):
    raw = tmp_path / "sets" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    large = np.stack([np.asarray(Image.fromarray(image).resize((28, 28))) for image in PIXELS[:300]])
    for name, part in {"train": slice(0, 240), "t10k": slice(240, 300)}.items():
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(large[part]))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(LABELS[:300][part]))
    return tmp_path / "sets"


def test_train_true_and_false(mnist):
    data = Torchvision(name="MNIST", root=str(mnist), val_fraction=0.25).open()
    assert (len(data.train), len(data.val), len(data.test)) == (180, 60, 60)
    assert (data.size, data.channels, data.classes[7]) == (28, 1, "7 - seven")
    assert data.test.labels.tolist() == LABELS[240:300].tolist()
    assert np.array_equal(data.test.images[0, ..., 0], np.asarray(Image.fromarray(PIXELS[240]).resize((28, 28))))
    stream = Torchvision(name="MNIST", root=str(mnist), val_fraction=0.25, in_memory=False).open()
    assert stream.digest == data.digest
    assert np.array_equal(stream.train.read(5), data.train.images[5])


def test_changed_files_are_read_again(mnist):
    spec = Torchvision(name="MNIST", root=str(mnist))
    before = spec.open().digest
    path = mnist / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + bytes([(LABELS[299] + 1) % 10]))
    assert spec.open().digest != before


def test_splits_by_name(tmp_path):
    for split, part in {"train": slice(0, 200), "valid": slice(200, 250), "test": slice(250, 300)}.items():
        fill(tmp_path / "country211" / split, labelled(part))
    data = Torchvision(name="Country211", root=str(tmp_path)).open()
    assert (len(data.train), len(data.val), len(data.test)) == (200, 50, 50)
    assert data.test.labels.tolist() == sorted(LABELS[250:300].tolist())
    assert data.notes == ()


def test_without_splits_it_is_divided(home):
    fill(home / "data" / "EuroSAT" / "eurosat" / "2750", labelled(slice(0, 200)))
    data = Torchvision(name="EuroSAT", test_fraction=0.25, val_fraction=0.2).open()
    assert (len(data.train), len(data.val), len(data.test)) == (120, 30, 50)
    assert data.classes == tuple("0123456789")


def test_a_lone_val_is_the_test_split(tmp_path):
    ids = ["n01440764", "n02102040", "n02979186", "n03000684", "n03028079"]
    ids += ["n03394916", "n03417042", "n03425413", "n03445777", "n03888257"]
    for split, part in {"train": slice(0, 200), "val": slice(200, 260)}.items():
        pairs = [(ids[int(name)], data) for name, data in labelled(part)]
        for path in list(fill(tmp_path / "imagenette2" / split, pairs).rglob("*.png")):
            path.rename(path.with_suffix(".JPEG"))
    data = Torchvision(name="Imagenette", root=str(tmp_path)).open()
    assert (len(data.train), len(data.val), len(data.test)) == (180, 20, 60)
    assert data.classes[:2] == ("tench, Tinca tinca", "English springer, English springer spaniel")
    assert any("val is the test split" in note for note in data.notes)


def test_options_and_classes_that_never_occur(tmp_path):
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for split, part in {"train": slice(0, 240), "test": slice(240, 300)}.items():
        (raw / f"emnist-letters-{split}-images-idx3-ubyte").write_bytes(idx(PIXELS[part]))
        (raw / f"emnist-letters-{split}-labels-idx1-ubyte").write_bytes(idx(LABELS[part] + 1))
    data = Torchvision(name="EMNIST", root=str(tmp_path), options={"split": "letters"}).open()
    assert data.classes == tuple("abcdefghij")
    assert data.test.labels.tolist() == LABELS[240:300].tolist()
    assert any("N/A" in note and "left out" in note for note in data.notes)
    with pytest.raises(ValueError, match=r"EMNIST refuses data.options None: .*split"):
        Torchvision(name="EMNIST", root=str(tmp_path)).open()


def test_labels_that_are_listed_nowhere_are_asked_for(tmp_path):
    for number, digit in enumerate((3, 5, 8)):
        folder = tmp_path / "2021_train_mini" / f"0000{number}_Animalia_a_b_c_d_e_f{digit}"
        folder.mkdir(parents=True)
        for image in range(20):
            Image.fromarray(PIXELS[digit == LABELS][image]).save(folder / f"{image:02d}.png")
    data = Torchvision(name="INaturalist", root=str(tmp_path), options={"version": "2021_train_mini"}).open()
    assert data.classes == ("0", "1", "2")
    assert sorted(np.bincount(data.train.labels)) == [14, 14, 15]
    assert np.bincount(data.test.labels).tolist() == [4, 4, 4]


def test_missing_files_say_the_cure():
    with pytest.raises(ValueError, match=r"CIFAR10 cannot be read in .*home/data/CIFAR10.*; set data.download: true"):
        Torchvision(name="CIFAR10").open()


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(ValueError, match=r"no data set 'cifar-10'; did you mean CIFAR10"):
        Torchvision(name="cifar-10").open()
    with pytest.raises(ValueError, match="it has CIFAR10, "):
        Torchvision(name="qqqqqqqq").open()


def test_sets_of_other_tasks_are_refused(tmp_path):
    devkit = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (devkit / folder).mkdir(parents=True)
    (devkit / "ImageSets/Segmentation/train.txt").write_text("a\n")
    Image.fromarray(PIXELS[0]).save(devkit / "JPEGImages/a.jpg")
    Image.fromarray(PIXELS[0]).save(devkit / "SegmentationClass/a.png")
    with pytest.raises(ValueError, match=r"yields \(Image, PngImageFile\), not an image and the number of its class"):
        Torchvision(name="VOCSegmentation", root=str(tmp_path)).open()
    with pytest.raises(ValueError, match=r"FakeData refuses data.options None: .*'root'"):
        Torchvision(name="FakeData", root=str(tmp_path)).open()


def test_a_damaged_file_of_a_set_is_named(tmp_path):
    root = tmp_path / "eurosat" / "2750"
    fill(root, labelled(slice(0, 200)))
    sorted((root / "3").iterdir())[0].write_bytes(b"")
    spec = Torchvision(name="EuroSAT", root=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"1 of 200 images cannot be read:\n  EuroSAT train image \d+: UnidentifiedImage"
    ):
        spec.open()
    assert len(spec.model_copy(update={"max_corrupt": 1}).open().train) == 143


def test_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute(Torchvision(name="MNIST", root="sets")).root == str(tmp_path / "sets")
    assert absolute(Torchvision(name="MNIST")).root is None

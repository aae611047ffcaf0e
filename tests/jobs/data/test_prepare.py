"""What is common to all sources: digest, statistics, sizes, memory or stream, corrupt images, caches."""

import hashlib
import logging
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from jobs.data import Digits, ImageFolder, Synthetic, faults, prepare, scan
from jobs.data.decode import decode, fit, pixels
from jobs.data.files import Files
from jobs.data.synthetic import Patterns
from jobs.home import home
from tests.jobs.data.conftest import encoded, fill

FRACTIONS = {"val_fraction": 0.25, "test_fraction": 0.25}


@pytest.fixture
def folder(tmp_path, digit_pngs):
    return fill(tmp_path / "digits", digit_pngs)


def opened(root, **fields):
    return ImageFolder(root=str(root), **{**FRACTIONS, **fields}).open()


def test_digits_are_all_there_once():
    data = Digits().open()
    assert (len(data.train), len(data.val), len(data.test)) == (1293, 144, 360)
    assert (data.classes, data.size, data.channels) == (tuple("0123456789"), 8, 1)
    assert data.train.images.dtype == np.uint8
    assert data.train.labels.dtype == np.int64
    rows = np.concatenate([split.images.reshape(len(split), -1) for split in (data.train, data.val, data.test)])
    assert len(np.unique(rows, axis=0)) == 1797
    assert Digits().open().digest == data.digest


def test_memory_and_stream_hold_the_same(folder):
    memory, stream = opened(folder), opened(folder, in_memory=False)
    assert (memory.digest, memory.mean, memory.std) == (stream.digest, stream.mean, stream.std)
    for split in ("train", "val", "test"):
        there, here = getattr(memory, split), pickle.loads(pickle.dumps(getattr(stream, split)))
        assert np.array_equal(there.labels, here.labels)
        assert np.array_equal(there.images, np.stack([here.read(index) for index in range(len(here))]))


def test_auto_streams_what_exceeds_the_limit(folder, monkeypatch):
    monkeypatch.setattr(prepare, "MEMORY_BYTES", 200 * 16 * 16)
    assert hasattr(opened(folder).train, "images")
    monkeypatch.setattr(prepare, "MEMORY_BYTES", 200 * 16 * 16 - 1)
    assert hasattr(opened(folder).train, "read")


def test_statistics_are_exact(folder):
    data = opened(folder, channels=3)
    x = data.train.images.astype(np.float64) / 255
    assert data.mean == pytest.approx(x.mean((0, 1, 2)), rel=1e-14)
    assert data.std == pytest.approx(x.std((0, 1, 2)), rel=1e-12)
    given = opened(folder, mean=(0.5,), std=(0.25,))
    assert (given.mean, given.std) == ((0.5,), (0.25,))
    with pytest.raises(ValueError, match=r"data.mean has 3 values, but the images have 1 channels"):
        opened(folder, mean=(0.5, 0.5, 0.5))


def test_a_constant_channel_is_not_divided_by_zero(tmp_path):
    images = [(name, encoded(Image.new("RGB", (4, 4), (7, level, 7)))) for name in "ab" for level in range(8)]
    data = opened(fill(tmp_path / "flat", images))
    assert data.std[0] == data.std[2] == 1 / 255
    assert data.mean[0] == pytest.approx(7 / 255)


def test_the_digest_is_that_of_the_content(folder, tmp_path, digit_pngs):
    digests = {"as is": opened(folder).digest}
    assert opened(folder).digest == digests["as is"]
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert opened(tmp_path / "elsewhere" / "copy").digest == digests["as is"]

    digests["another split"] = opened(folder, split_seed=1).digest
    digests["another share"] = opened(folder, val_fraction=0.3).digest
    digests["another size"] = opened(folder, size=8).digest
    digests["another channel count"] = opened(folder, channels=3).digest
    first = next(iter(sorted((folder / "digit 3").iterdir())))
    data = first.read_bytes()
    image = np.array(decode(data))
    image[0, 0] ^= 1
    first.write_bytes(encoded(Image.fromarray(image)))
    digests["another pixel"] = opened(folder).digest
    first.write_bytes(data)
    assert opened(folder).digest == digests["as is"]
    first.rename(folder / "digit 4" / first.name)
    digests["another label"] = opened(folder).digest
    (folder / "digit 4" / first.name).rename(first)
    (folder / "digit 9").rename(folder / "digit 9b")
    digests["another class name"] = opened(folder).digest
    assert len(set(digests.values())) == len(digests), digests


def test_size_null_wants_one_square_size(folder):
    odd = folder / "digit 5" / "zz.png"
    odd.write_bytes(encoded(Image.new("L", (20, 12))))
    with pytest.raises(
        ValueError, match=r"differ in size: the first is 16x16, .*zz.png is 12x20 .*16x16.*set data.size"
    ):
        opened(folder)
    assert opened(folder, size=12).train.images.shape[1:] == (12, 12, 1)


def test_size_null_wants_squares(tmp_path):
    images = [(name, encoded(Image.new("L", (6, 4)))) for name in "ab" for _ in range(8)]
    with pytest.raises(ValueError, match=r"0000.png is 4 high and 6 wide.*set data.size"):
        opened(fill(tmp_path / "wide", images))


def test_images_are_grey_only_if_all_are(folder):
    assert opened(folder).channels == 1
    (folder / "digit 9" / "zz.png").write_bytes(encoded(Image.new("RGB", (16, 16), "red")))
    data = opened(folder)
    assert data.channels == len(data.mean) == 3
    assert data.train.images.shape[3] == 3
    assert opened(folder, channels=1).train.images.shape[3] == 1


@pytest.fixture
def damaged(folder):
    (folder / "digit 1" / "zz-empty.png").write_bytes(b"")
    whole = next((folder / "digit 2").iterdir()).read_bytes()
    (folder / "digit 2" / "zz-half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "digit 3" / "zz-text.png").write_text("404")
    (folder / "digit 4" / "zz-gone.png").symlink_to(folder / "nowhere.png")
    return folder


def test_corrupt_images_are_named_with_reasons_and_the_cure(damaged):
    with pytest.raises(ValueError, match="4 of 204 images cannot be read") as caught:
        opened(damaged, max_corrupt=3)
    text = str(caught.value)
    assert "zz-empty.png: zero bytes" in text
    assert "zz-half.png: " in text
    assert "zz-text.png: not an image" in text
    assert "zz-gone.png: No such file" in text
    assert "set data.max_corrupt (now 3) to 4" in text


@pytest.mark.parametrize("in_memory", [True, False])
def test_corrupt_images_are_skipped_where_allowed(damaged, caplog, in_memory):
    with caplog.at_level(logging.WARNING):
        data = opened(damaged, max_corrupt=4, in_memory=in_memory)
    assert len(data.train) + len(data.val) + len(data.test) == 200
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4
    assert "zz-text.png" in caplog.text
    assert any("skipped 4 images" in note and "zz-half.png" in note for note in data.notes)
    for bad in damaged.glob("*/zz-*"):
        bad.unlink()
    assert opened(damaged).digest == data.digest


def test_only_the_first_ten_corrupt_images_are_listed(tmp_path):
    with pytest.raises(ValueError, match=r"16 of 16 images cannot be read") as caught:
        opened(fill(tmp_path / "bad", [(name, b"") for name in "ab" for _ in range(8)]))
    assert str(caught.value).count("zero bytes") == 10
    with pytest.raises(ValueError, match="the train split has no readable images"):
        opened(tmp_path / "bad", max_corrupt=16)


def test_a_second_opening_reads_no_image_again(folder, caplog):
    caplog.set_level(logging.INFO)
    first = opened(folder)
    assert "reading each of 200 images" in caplog.text
    caplog.clear()
    again, streamed = opened(folder), opened(folder, in_memory=False)
    assert caplog.text == ""
    assert again.digest == first.digest == streamed.digest
    assert np.array_equal(again.train.images, first.train.images)


def test_a_changed_file_is_read_again(folder):
    opened(folder)
    path = next((folder / "digit 0").iterdir())
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=rf"1 of 200 .*\n  {path}"):
        opened(folder)


def test_a_failing_storage_is_asked_again(folder, caplog):
    target = folder.parent / "later.png"
    (folder / "digit 0" / "zz.png").symlink_to(target)
    opened(folder, max_corrupt=1)
    caplog.set_level(logging.INFO)
    opened(folder, max_corrupt=1)
    assert "reading each of 201 images" in caplog.text


@pytest.mark.parametrize("pattern", ["cache/scan/*.npz", "cache/decoded/*.npy"])
@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b""])
def test_a_broken_cache_is_made_again(folder, home, pattern, damage):
    first = opened(folder)
    (path,) = home.glob(pattern)
    path.write_bytes(damage(path.read_bytes()))
    again = opened(folder)
    assert again.digest == first.digest
    assert np.array_equal(again.test.images, first.test.images)
    assert not list(home.rglob(".*"))


def test_of_those_that_open_at_once_one_reads(folder, home, caplog):
    caplog.set_level("INFO", "jobs.data.scan")
    with ThreadPoolExecutor(4) as pool:
        all_of_them = list(pool.map(lambda _: opened(folder), range(4)))
    assert caplog.text.count("once") == len({record.getMessage() for record in caplog.records})
    assert len({data.digest for data in all_of_them}) == 1
    assert len({data.val.images.tobytes() for data in all_of_them}) == 1
    assert not list(home.rglob(".*"))


def test_an_unwritable_cache_is_no_hindrance(folder, home, caplog):
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "scan").write_text("a file where a folder should be")
    assert len(opened(folder).train)
    assert "cannot keep what was found" in caplog.text


def test_shared_images_are_told(tmp_path, digit_pngs):
    fill(tmp_path / "leak" / "train", digit_pngs[:150])
    fill(tmp_path / "leak" / "test", digit_pngs[:3] + digit_pngs[150:])
    data = opened(tmp_path / "leak", val_fraction=0.1)
    shared = [int(note.split()[0]) for note in data.notes if "images of test are also in" in note]
    assert sum(shared) == 3


def test_an_image_that_went_bad_meanwhile_is_named(folder):
    data = opened(folder, in_memory=False)
    for path in folder.glob("*/*.png"):
        os.truncate(path, 20)
    with pytest.raises(ValueError, match=r"\.png can no longer be read"):
        data.train.read(0)


@pytest.mark.parametrize("channels", [1, 3])
def test_synthetic_is_deterministic_and_learnable(channels):
    spec = Synthetic(classes=4, samples=400, size=12, channels=channels, noise=0.5)
    data = spec.open()
    assert spec.open().digest == data.digest
    assert Synthetic(classes=4, samples=400, size=12, channels=channels, noise=0.5, seed=1).open().digest != data.digest
    assert (len(data.train), len(data.val), len(data.test)) == (288, 32, 80)
    assert data.train.images.shape == (288, 12, 12, channels)
    means = np.stack([data.train.images[data.train.labels == c].mean(0) for c in range(4)])
    distance = ((data.test.images[:, None] - means) ** 2).sum((2, 3, 4))
    assert (distance.argmin(1) == data.test.labels).mean() == 1


def test_synthetic_is_the_same_on_every_machine():
    store = Patterns(classes=3, samples=12, size=10, channels=3, noise=0.5, seed=7)
    assert np.asarray(store.load(5)[0])[0, 0].tolist() == [18, 50, 148]
    every = b"".join(store.load(index)[1] for index in range(12))
    assert hashlib.sha256(every).hexdigest().startswith("55d3cd26bdc92168")


def test_photographs_are_decoded_once_for_all(tmp_path):
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    crops = [(str(n), photo.crop((x, 0, x + 300, 200))) for n, photo in enumerate(photos) for x in range(0, 320, 20)]
    root = fill(tmp_path / "photos", [(name, encoded(crop, "JPEG")) for name, crop in crops])
    data, stream = opened(root, size=64), opened(root, size=64, in_memory=False)
    files = sorted(root.glob("*/*.png"))
    expected = {fit(pixels(decode(path.read_bytes()), 3), 64).tobytes() for path in files}
    seen = [image.tobytes() for split in (data.train, data.val, data.test) for image in split.images]
    assert len(seen) == 32
    assert set(seen) == expected
    assert stream.train.read(0).shape == (200, 300, 3)
    assert np.array_equal(fit(stream.train.read(0), 64), data.train.images[0])
    assert stream.mean == data.mean


def test_images_are_turned_as_exif_says_wherever_pixels_are_read(tmp_path):
    """And only sets that have such images get another digest."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for label, name in enumerate(("left", "right")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(10):
            shown = np.full((16, 16, 3), number, np.uint8)
            shown[:, 8 * label : 8 * label + 8] += 200  # bright on the left, or on the right
            path = tmp_path / "set" / name / f"{number}.png"
            Image.fromarray(shown).save(path)
    spec = ImageFolder(root=str(tmp_path / "set"))
    unturned = spec.model_copy(update={"exif_orientation": False})
    plain = spec.open()
    assert plain.digest == unturned.open().digest, "nothing is turned, so it is the same set"
    for path in sorted((tmp_path / "set").glob("*/*")):
        stored = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        stored.save(path, exif=exif)
    data, stored = spec.open(), unturned.open()
    assert len({plain.digest, data.digest, stored.digest}) == 3
    assert np.array_equal(data.train.images, plain.train.images)
    assert np.array_equal(stored.train.images, np.rot90(plain.train.images, 1, (1, 2)))
    assert data.exif_orientation and not stored.exif_orientation
    streamed = spec.model_copy(update={"in_memory": False}).open()
    assert np.array_equal(streamed.train.read(3), data.train.images[3])
    assert streamed.digest == data.digest


def test_leaks_are_counted_by_images(tmp_path, digit_pngs):
    for split, count in (("train", 3), ("val", 7), ("test", 1)):
        for name in ("a", "b"):
            fill(tmp_path / "set" / split, [(name, digit_pngs[ord(name)][1])] * count)
    notes = [note for note in ImageFolder(root=str(tmp_path / "set")).open().notes if "byte for byte" in note]
    assert notes == [
        "14 images of val are also in train, byte for byte",
        "2 images of test are also in train, byte for byte",
        "2 images of test are also in val, byte for byte",
    ]
    one = {"train": np.ones((2, 16), np.uint8), "val": np.zeros((1, 16), np.uint8), "test": np.ones((1, 16), np.uint8)}
    assert faults.leaks(one) == ["1 image of test is also in train, byte for byte"]


@pytest.mark.parametrize(("name", "values"), [("mean", (123.7, 116.3, 103.5)), ("std", (58.4, 57.1, 57.4))])
def test_statistics_of_bytes_are_refused_with_the_ones_of_shares(name, values):
    scaled = ", ".join(f"{each / 255:.4g}" for each in values)
    with pytest.raises(ValueError, match=rf"{name} is of pixels in 0 .. 1.* write \[{scaled}\]"):
        Digits(**{name: values})
    Digits(mean=(0.0, 1.0), std=(1.0, 1 / 255))


def test_a_pass_that_was_cut_short_is_continued(folder, monkeypatch):
    expected = opened(folder, in_memory=False)
    for path in (home() / "cache" / "scan").iterdir():
        path.unlink()
    monkeypatch.setattr(scan, "_PART", 16)
    monkeypatch.setattr(scan, "threads", lambda: 1)
    read, usual = [], Files.decoded

    def counted(self, index, *given):
        read.append(index)
        if len(read) == 40:
            raise KeyboardInterrupt
        return usual(self, index, *given)

    monkeypatch.setattr(Files, "decoded", counted)
    with pytest.raises(KeyboardInterrupt):
        opened(folder, in_memory=False)
    parts = list((home() / "cache" / "scan").glob("*.parts/*.npz"))
    assert len(parts) == 2
    parts[0].write_bytes(parts[0].read_bytes()[:100])  # as a crash may leave it
    again = opened(folder, in_memory=False)
    assert len(read) == 40 + len(again.train) + len(again.val) + len(again.test) - 16
    assert again.digest == expected.digest and again.mean == expected.mean
    assert not list((home() / "cache" / "scan").glob("*.parts"))

"""Validation and test images of another size than training's (FixRes), and of a central part of the image."""

from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from jobs.data import ImageFolder
from jobs.data.decode import fit
from jobs.data.files import Files
from jobs.data.loader import Loader
from jobs.data.sets import Arrays
from jobs.models import CNN, load, save
from jobs.outcome import keep_model
from jobs.place import Place
from jobs.report import Keep
from jobs.train import train
from tests.jobs.digits_job import job


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(
                tmp_path / "images" / name / f"{number}.png"
            )
    return tmp_path / "images"


def test_crop_ratio_takes_the_central_square_to_whole_pixels():
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    side = round(30 * 0.875)
    assert side == 26
    square = Image.fromarray(image).crop((2, 7, 28, 33))
    expected = np.asarray(square.resize((24, 24), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(fit(image, 24, 0.875) - expected).max() <= 1


@pytest.mark.parametrize("in_memory", [True, False])
def test_only_val_and_test_have_the_test_size(folder, in_memory):
    data = ImageFolder(root=str(folder), size=16, test_size=24, crop_ratio=0.875, in_memory=in_memory).open()
    spec = job(batch_size=8)
    with closing(Loader(spec, data, Place(), spec.steps(len(data.train)))) as loader:
        _, parts = next(loader.epoch(0, 0))
        assert next(parts)[1].shape == (8, 3, 16, 16)
        x, _ = next(loader.scoring(data.val))
        assert x.shape[1:] == (3, 24, 24)


def test_memory_and_stream_score_the_same_pixels(folder):
    batches = []
    for in_memory in (True, False):
        data = ImageFolder(root=str(folder), size=16, test_size=24, crop_ratio=0.8, in_memory=in_memory).open()
        spec = job(batch_size=8)
        with closing(Loader(spec, data, Place(), spec.steps(len(data.train)))) as loader:
            x, labels = next(loader.scoring(data.test))
        batches.append((x.numpy(), labels.numpy()))
    assert (batches[0][0] == batches[1][0]).all() and (batches[0][1] == batches[1][1]).all()


def test_a_random_resized_crop_is_of_the_original(folder):
    """Images of three vertical stripes, of which the central square shows one."""
    picture = np.repeat(np.eye(3, dtype=np.uint8) * 255, 40, 0)[None].repeat(40, 0)
    for file in folder.rglob("*.png"):
        Image.fromarray(picture).save(file)
    fields = {"root": str(folder), "size": 16, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    pixels = []
    for in_memory in (True, False):
        data = ImageFolder(**fields, in_memory=in_memory).open()
        assert isinstance(data.val, Arrays) == in_memory
        spec = job(batch_size=16, augment=[{"kind": "random_resized_crop"}], data__size=16)
        with closing(Loader(spec, data, Place(), spec.steps(len(data.train)))) as loader:
            _, parts = next(loader.epoch(0, 0))
            pixels.append(next(parts)[1].numpy())
    assert (pixels[0] == pixels[1]).all()
    assert pixels[0].mean((0, 2, 3)).min() > 0.1, "all three colours are seen"


def test_the_kept_model_predicts_what_was_scored(tmp_path):
    spec = job(data__test_size=12, data__crop_ratio=0.9, evaluation__flip=True, epochs=2)
    data = spec.data.open()
    outcome = train(spec, Place(), Keep(), {"data": data})
    keep_model(str(tmp_path), outcome, data)
    loaded = load(tmp_path)
    assert (loaded.size, loaded.crop_ratio, loaded.flip) == (12, 0.9, True)
    plain = job().data.open()  # the same split, in the images' own size
    right = loaded.predict(plain.test.images).argmax(1) == plain.test.labels
    assert outcome.test is not None
    assert right.mean() == pytest.approx(outcome.test.top1, abs=1e-9)


def test_flip_averages_the_logits_of_both_views(tmp_path):
    model = CNN(width=4)
    network = model.build(3, 1).eval()
    told = {"size": 8, "channels": 1, "mean": [0.5], "std": [0.5], "flip": True}
    save(tmp_path, network, model.model_dump(mode="json"), "abc", told)
    images = np.random.default_rng(2).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    both = load(tmp_path).predict(images)
    assert np.allclose(both, load(tmp_path).predict(images[:, :, ::-1]), atol=1e-6)


def test_what_is_scored_in_memory_is_read_again_and_nothing_else(folder, monkeypatch):
    read, usual = [], Files.decoded
    monkeypatch.setattr(Files, "decoded", lambda self, index, *given: read.append(index) or usual(self, index, *given))
    source = ImageFolder(root=str(folder), size=16, test_size=24, crop_ratio=0.8, in_memory=True)
    data = source.open()
    assert len(read) == 40 + len(data.val) + len(data.test) == 40 + 4 + 8
    again = source.open()
    assert len(read) == 52
    for one, other in ((data.val, again.val), (data.test, again.test)):
        assert np.array_equal(one.images, other.images) and one.images.shape[1:] == (24, 24, 3)
    streamed = source.model_copy(update={"in_memory": False}).open()
    assert all(np.array_equal(streamed.test.fitted(at, 24, 0.8), data.test.images[at]) for at in range(8))
    assert streamed.digest == data.digest

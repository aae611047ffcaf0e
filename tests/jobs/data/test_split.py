import math

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from jobs.data import Digits
from jobs.data.split import divide, stratified

SOURCE = Digits(val_fraction=0.25, test_fraction=0.5)


def test_every_class_gives_its_share():
    labels = np.repeat([0, 1, 2], [40, 20, 80])
    rest, out = stratified(labels, 0.25, 0, "abc", "val_fraction")
    assert np.bincount(labels[out]).tolist() == [10, 5, 20]
    assert sorted([*rest, *out]) == list(range(140))
    assert np.array_equal(out, np.sort(out))


def test_the_seed_decides():
    labels = np.repeat([0, 1], 50)
    first, again, other = (stratified(labels, 0.2, seed, "ab", "val_fraction")[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_it_holds_out_what_scikit_learn_does():
    draws = np.random.default_rng(0)
    for seed in range(300):
        classes = int(draws.integers(2, 12))
        labels = draws.choice(classes, size=int(draws.integers(4 * classes, 400)), p=draws.dirichlet(np.ones(classes)))
        labels = labels[np.isin(labels, np.flatnonzero(np.bincount(labels) > 1))]
        fraction, count = draws.uniform(0.02, 0.98), len(np.unique(labels))
        held = math.ceil(fraction * len(labels))
        if not count <= held <= len(labels) - count:
            continue
        theirs = train_test_split(np.arange(len(labels)), test_size=held, stratify=labels, random_state=seed)
        ours = stratified(labels, fraction, seed, "abcdefghijkl", "val_fraction")
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.dtype == np.int64 and np.array_equal(mine, np.sort(other))


def test_too_few_images_say_what_would_do():
    with pytest.raises(ValueError, match=r"val_fraction 0.1: 'b' has one image only"):
        stratified(np.array([0, 0, 1]), 0.1, 0, "ab", "val_fraction")
    with pytest.raises(ValueError, match=r"holds out 2 and leaves 18.* each of 4 classes; take 0.2 to 0.8"):
        stratified(np.repeat([0, 1, 2, 3], 5), 0.1, 0, "abcd", "val_fraction")
    with pytest.raises(ValueError, match=r"leaves 0, .* take 0.5 to 0.5"):
        stratified(np.array([0, 0, 1, 1, 2, 2]), 0.9, 0, "abc", "val_fraction")


@pytest.mark.parametrize(
    ("own", "expected", "said"),
    [
        (("train",), {"train": ("train", 30), "val": ("train", 10), "test": ("train", 40)}, "no test split"),
        (("train", "test"), {"train": ("train", 60), "val": ("train", 20), "test": ("test", 12)}, None),
        (("train", "val"), {"train": ("train", 60), "val": ("train", 20), "test": ("val", 8)}, "val is the test split"),
        (("train", "val", "test"), {"train": ("train", 80), "val": ("val", 8), "test": ("test", 12)}, None),
    ],
)
def test_which_split_serves_as_what(own, expected, said):
    labels = {"train": np.arange(80) % 2, "val": np.arange(8) % 2, "test": np.arange(12) % 2}
    parts, notes = divide({split: labels[split] for split in own}, SOURCE, "ab")
    assert {split: (of, len(index)) for split, (of, index) in parts.items()} == expected
    assert [said in note for note in notes] == ([True] if said else [])
    from_train = np.concatenate([index for of, index in parts.values() if of == "train"])
    assert sorted(from_train) == list(range(80))


def test_a_class_without_training_images_is_named():
    with pytest.raises(ValueError, match="'c' has no images in train"):
        divide({"train": np.arange(80) % 2, "test": np.arange(3)}, SOURCE, "abc")
    with pytest.raises(ValueError, match="the test split has no readable images"):
        divide({"train": np.arange(80) % 2, "test": np.arange(0)}, SOURCE, "ab")

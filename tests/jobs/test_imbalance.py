"""Uneven classes: weights in the loss, balanced sampling, and how both meet the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from jobs.data.loader import Loader
from jobs.place import Place
from jobs.randomness import balanced_order
from jobs.report import Keep
from jobs.train import train
from tests.jobs.digits_job import job

LABELS = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)


def test_every_class_comes_equally_often() -> None:
    visits = torch.cat([balanced_order(1, epoch, LABELS) for epoch in range(20)])
    shares = torch.bincount(LABELS[visits % 1000]) / len(visits)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.015, rtol=0)
    rare = torch.bincount(visits[LABELS[visits % 1000] == 2] % 1000)[990:]
    assert rare.min() > 0.8 * rare.max(), "the images of one class come unequally often"


def test_each_showing_of_a_sample_is_numbered() -> None:
    visits = balanced_order(1, 0, LABELS)
    assert len(visits) == 1000 and len(visits.unique()) == 1000
    for sample in range(990, 1000):
        times = visits[visits % 1000 == sample] // 1000
        assert times.tolist() == list(range(len(times)))


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert torch.equal(balanced_order(1, 2, LABELS), balanced_order(1, 2, LABELS))
    assert not torch.equal(balanced_order(1, 2, LABELS), balanced_order(1, 3, LABELS))
    assert not torch.equal(balanced_order(1, 2, LABELS), balanced_order(2, 2, LABELS))


def uneven() -> Any:
    """Digits with nine tenths of the classes 5 to 9 taken away from train."""
    data = job().data.open()
    keep = np.flatnonzero((data.train.labels < 5) | (np.arange(len(data.train)) % 10 == 0))
    return replace(data, train=replace(data.train, images=data.train.images[keep], labels=data.train.labels[keep]))


def test_repeated_showings_are_augmented_differently() -> None:
    data = replace(uneven(), balanced_sampling=True)
    spec = job(batch=[])
    steps = spec.steps(len(data.train))
    images: dict[bytes, int] = {}
    for _, parts in Loader(spec, data, Place(), steps).epoch(0, 0):
        for _, x, labels in parts:
            for image in x[labels >= 5]:
                images[image.numpy().tobytes()] = images.get(image.numpy().tobytes(), 0) + 1
    rare = int((data.train.labels >= 5).sum())
    assert len(images) > 2 * rare, "each rare image is shown in one and the same crop"


def test_balanced_weights_even_out_the_classes_and_average_to_one() -> None:
    weights = np.array(job(data__class_weights="balanced").data.open().class_weights)
    counts = np.bincount(job().data.open().train.labels)
    assert weights * counts == pytest.approx(np.full(10, (weights * counts).mean()))
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)


def test_weights_by_name() -> None:
    weights = job(data__class_weights={"3": 4.0}).data.open().class_weights
    assert weights is not None
    assert weights[3] == pytest.approx(4 * weights[0])
    with pytest.raises(ValueError, match=r"names '33', but no class; did you mean 3"):
        job(data__class_weights={"33": 4.0}).data.open()


@pytest.mark.parametrize("mixing", ["mixup", "cutmix", "ricap"])
def test_both_help_the_rare_classes_under_every_mixing_trick(mixing: str) -> None:
    plain = uneven()
    counts = np.bincount(plain.train.labels)
    weights = tuple((len(plain.train) / (10 * counts)).tolist())
    spec = job(batch=[{"kind": mixing}], epochs=4)
    recalls = []
    for data in (plain, replace(plain, class_weights=weights), replace(plain, balanced_sampling=True)):
        outcome = train(spec, Place(), Keep(), {"data": data})
        assert outcome.test is not None
        recalls.append(float(outcome.test.recall[5:].mean()))
    assert recalls[1] > recalls[0] + 0.1 and recalls[2] > recalls[0] + 0.1, recalls

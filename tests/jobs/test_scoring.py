"""What is measured of a stored model: by hand, and against the evaluation of the training loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from jobs import precision
from jobs.data.sets import Arrays
from jobs.data.store import Drawn
from jobs.data.streamed import Streamed
from jobs.evaluate import evaluate
from jobs.models import LoadedModel
from jobs.place import Place
from jobs.scoring import Arithmetic, calibration, judge
from tests.jobs.models.tiny import tiny

CPU = torch.device("cpu")


def arrays(model: LoadedModel, count: int = 50) -> Arrays:
    """Blobs of noise, which the model does not take all for one class."""
    draw = np.random.default_rng(3)
    coarse = draw.integers(0, 256, (count, 4, 4, model.channels), dtype=np.uint8)
    images = coarse.repeat(model.size // 4, 1).repeat(model.size // 4, 2)
    return Arrays(images, draw.integers(0, len(model.classes), count))


def test_ece_by_hand() -> None:
    confidence = np.array([0.95, 0.99, 1.0, 0.5, 0.3])
    found = calibration(confidence, np.array([True, True, False, True, False]))
    assert found.counts.tolist() == [0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3]
    # (|2 - 2.94| + |1 - 0.5| + |0 - 0.3|) / 5
    assert found.ece == pytest.approx((0.94 + 0.5 + 0.3) / 5)


def test_edges_belong_to_the_bin_below() -> None:
    assert calibration(np.array([1 / 15, 2 / 15, 0.0]), np.array([True] * 3)).counts[:3].tolist() == [2, 1, 0]


@pytest.mark.parametrize("arithmetic", [Arithmetic(), Arithmetic("bf16", True, 7, 1), Arithmetic("fp32", True, 8, 3)])
def test_scores_are_those_of_the_training_loop_s_evaluation(tmp_path: Path, arithmetic: Arithmetic) -> None:
    model = tiny(tmp_path, classes="abcdefgh")
    split = arrays(model)
    found = judge(model, split, arithmetic, CPU)
    x, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    with precision.autocast(arithmetic, CPU):
        logits = model.logits(x, arithmetic.channels_last)

    class Given(torch.nn.Module):
        def forward(self, index: torch.Tensor) -> torch.Tensor:
            return logits[index]

    wanted = evaluate(
        Given(), [(torch.arange(50), labels)], 50, 8, Place(), lambda: precision.autocast(arithmetic, CPU)
    )
    assert (found.scores.top1, found.scores.means["top5"]) == (wanted.top1, wanted.means["top5"])
    assert found.scores.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert wanted.confusion is not None
    assert found.scores.confusion is not None
    assert torch.equal(found.scores.confusion, wanted.confusion)
    assert found.predicted.tolist() == wanted.confusion.sum(0).tolist()
    assert len(set(found.predicted)) > 2, "the model takes all for one class, which tests nothing"
    np.testing.assert_array_equal(found.precision, found.right / np.where(found.predicted, found.predicted, np.nan))


def test_wrong_images_are_named_by_their_number_in_the_split(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    split = arrays(model)
    found = judge(model, split, Arithmetic(batch_size=9, workers=2), CPU)
    probabilities = model.predict(split.images)
    taken = probabilities.argmax(1)
    wrong = np.flatnonzero(taken != split.labels)
    assert found.wrong.tolist() == np.stack([wrong, split.labels[wrong], taken[wrong]], 1).tolist()
    np.testing.assert_allclose(found.confidence, probabilities[wrong].max(1), rtol=1e-5)


def test_streamed_images_score_as_those_in_memory(tmp_path: Path) -> None:
    model = tiny(tmp_path, size=8, crop_ratio=0.75)
    split = arrays(tiny(tmp_path / "large"))
    store = Drawn(split.images, split.labels)
    index = np.arange(len(split))
    in_memory = Arrays(np.stack([_fit(image) for image in split.images]), split.labels)
    ways = [judge(model, one, Arithmetic(batch_size=7), CPU) for one in (Streamed(store, index, 3), in_memory)]
    assert ways[0].scores.loss == ways[1].scores.loss
    assert ways[0].wrong.tolist() == ways[1].wrong.tolist()


def _fit(image: np.ndarray) -> np.ndarray:
    """The central 12 pixels of 16, as 8."""
    square = torch.from_numpy(image[2:14, 2:14].copy()).permute(2, 0, 1)
    return v2.functional.resize(square, [8, 8], v2.InterpolationMode.BICUBIC, antialias=True).permute(1, 2, 0).numpy()

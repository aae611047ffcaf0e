"""How good a stored model is on labelled images: what training records of a split, and what explains the number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from jobs import precision
from jobs.data.ahead import ahead
from jobs.data.decode import Pixels
from jobs.data.sets import Arrays, Split
from jobs.evaluate import Scores, Tally
from jobs.models import LoadedModel

BINS = 15
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Arithmetic:
    """How the network is computed and the images are shared out; by these a score repeats to the last bit.

    Attributes:
        precision: fp32, bf16, fp16 or fp64.
        channels_last: layout NHWC.
        batch_size: images a forward pass.
        workers: over so many processes the images were dealt out.
    """

    precision: str = "fp32"
    channels_last: bool = False
    batch_size: int = 500
    workers: int = 1

    @classmethod
    def of(cls, model: LoadedModel) -> Arithmetic:
        """That by which the model was scored when it was trained."""
        return cls(**model.meta.get("scored", {}))


@dataclass(frozen=True)
class Calibration:
    """Confidence and accuracy, in bins of equal width; the confidence is the largest probability of an image.

    Attributes:
        counts: int64 ``(BINS,)``: images with a confidence in ``(i / BINS, (i + 1) / BINS]``.
        confidences: float64 ``(BINS,)``: the sum of their confidences.
        right: int64 ``(BINS,)``: how many of them were recognised.
    """

    counts: NDArray[np.int64]
    confidences: NDArray[np.float64]
    right: NDArray[np.int64]

    @property
    def ece(self) -> float:
        """Expected calibration error, ``sum_b n_b / N |accuracy_b - confidence_b|`` (Naeini et al. 2015; Guo et al.,
        arXiv 1706.04599, equation 3)."""
        return float(np.abs(self.right - self.confidences).sum() / self.counts.sum())


@dataclass(frozen=True)
class Judgement:
    """Everything that is measured of a model on labelled images.

    Attributes:
        scores: as training records them.
        seen, predicted, right: int64 ``(K,)``: images of a class, images taken for it, and both at once.
        calibration: of the probabilities.
        wrong: int64 ``(M, 3)``: of each image that was not recognised its number in the split, its class, and the class
            it was taken for.
        confidence: float64 ``(M,)``: the probability that it was given for the latter.
    """

    scores: Scores
    seen: NDArray[np.int64]
    predicted: NDArray[np.int64]
    right: NDArray[np.int64]
    calibration: Calibration
    wrong: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the images taken for a class that are of it, float64 ``(K,)``; NaN where none was."""
        share = np.full(len(self.right), np.nan)
        np.divide(self.right, self.predicted, out=share, where=self.predicted > 0)
        return share


@torch.no_grad()
def judge(model: LoadedModel, split: Split, arithmetic: Arithmetic, device: torch.device) -> Judgement:
    """Score a model on a split.

    Args:
        model: moved to the device, and into the arithmetic's layout.
        split: labelled images, not empty; those in memory have the model's size.
        arithmetic: see :meth:`Arithmetic.of`.
        device: where to compute.
    """
    network, classes = model.network.to(device), len(model.classes)
    if arithmetic.channels_last:
        network.to(memory_format=torch.channels_last)
    tallies, predictions, confidences = [], [], []
    shares = [np.arange(rank, len(split), arithmetic.workers) for rank in range(arithmetic.workers)]
    for share in shares:
        tallies.append(tally := Tally(classes, device))
        picks = [share[start : start + arithmetic.batch_size] for start in range(0, len(share), arithmetic.batch_size)]
        for pick, images in zip(picks, _images(model, split, picks), strict=True):
            with precision.autocast(arithmetic, device):
                logits = model.logits(torch.from_numpy(images).to(device), arithmetic.channels_last)
            predicted = tally.add(logits, torch.from_numpy(split.labels[pick]).to(device))
            predictions.append(predicted.cpu().numpy())
            probabilities = logits.to(torch.float64).softmax(1)
            confidences.append(probabilities.gather(1, predicted[:, None])[:, 0].cpu().numpy())
    total = tallies[0]
    for tally in tallies[1:]:
        for one, other in zip(total.counts, tally.counts, strict=True):
            one += other
    index = np.concatenate(shares)
    labels, taken, confidence = split.labels[index], np.concatenate(predictions), np.concatenate(confidences)
    wrong = np.flatnonzero(labels != taken)
    wrong = wrong[np.argsort(index[wrong])]
    return Judgement(
        scores=total.scores(len(split)),
        seen=total.seen.cpu().numpy(),
        predicted=np.bincount(taken, minlength=classes),
        right=total.right.cpu().numpy(),
        calibration=calibration(confidence, labels == taken),
        wrong=np.stack([index[wrong], labels[wrong], taken[wrong]], axis=1),
        confidence=confidence[wrong],
    )


def calibration(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """Bin the confidences ``(N,)`` of predictions that are right or not."""
    places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    sums = np.zeros(BINS)
    np.add.at(sums, places, confidence)
    return Calibration(
        counts=np.bincount(places, minlength=BINS),
        confidences=sums,
        right=np.bincount(places[right], minlength=BINS),
    )


def fitted(model: LoadedModel, split: Split, index: int) -> Pixels:
    """Image ``index`` of a split as the model sees it, uint8 ``(size, size, channels)``."""
    return split.images[index] if isinstance(split, Arrays) else split.fitted(index, model.size, model.crop_ratio)


def _images(model: LoadedModel, split: Split, picks: list[NDArray[np.int64]]) -> Iterator[Pixels]:
    """The images of each batch, uint8 ``(n, size, size, channels)``."""
    if isinstance(split, Arrays):
        yield from (split.images[pick] for pick in picks)
        return
    most = _BATCHES_AHEAD * max(map(len, picks), default=1)
    every = ahead(lambda index: fitted(model, split, int(index)), (index for pick in picks for index in pick), most)
    for pick in picks:
        yield np.stack([next(every) for _ in pick])

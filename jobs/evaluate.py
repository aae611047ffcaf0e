"""Exact evaluation: every image once, whatever the number of workers; integer counts, float64 sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from jobs import buffers
from jobs.metrics import METRICS
from jobs.models.logits import logits, wide
from jobs.place import Place

CONFUSION_CLASSES = 1000
"""Largest number of classes for which the confusion matrix is counted."""
RECALL_CLASSES = 100
"""Largest number of classes whose recall is a series of its own."""


@dataclass(frozen=True)
class Scores:
    """How a network did on a split.

    Attributes:
        count: images scored.
        top1: fraction of the images that were recognised.
        means: the value of every metric of ``jobs.metrics``, by its name.
        recall: float64 ``(K,)``, NaN for a class without images.
        confusion: int64 ``(K, K)``, true class by predicted class; None for more than ``CONFUSION_CLASSES`` classes.
    """

    count: int
    top1: float
    means: dict[str, float]
    recall: torch.Tensor
    confusion: torch.Tensor | None

    @property
    def loss(self) -> float:
        """Mean cross-entropy with the hard labels."""
        return self.means["loss"]

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that have images."""
        return float(self.recall.nanmean())

    def recalls(self, split: str, classes: Sequence[str]) -> dict[str, float]:
        """Recall by class, named ``<split>/recall/<class>``; empty for more than ``RECALL_CLASSES`` classes."""
        if len(classes) > RECALL_CLASSES:
            return {}
        return {f"{split}/recall/{name}": float(r) for name, r in zip(classes, self.recall, strict=True)}

    def metrics(self, split: str) -> dict[str, float]:
        """The scalars, named ``<split>/...``, without the recall of each class (:meth:`recalls`)."""
        values = {"loss": self.loss, "top1": self.top1, "balanced_accuracy": self.balanced_accuracy, **self.means}
        return {f"{split}/{name}": value for name, value in values.items()}


class Tally:
    """What is counted of a split, batch by batch; all counts add up over ranks.

    Attributes:
        seen, right: int64 ``(K,)``: images of each class, and those of them that were recognised.
        counts: all tensors, on the device, in which another tally can be added.
    """

    def __init__(self, classes: int, device: torch.device) -> None:
        self.classes = classes
        self.seen = torch.zeros(classes, dtype=torch.int64, device=device)
        self.right = torch.zeros_like(self.seen)
        self._metrics = [metric for metric in METRICS if classes >= metric.min_classes]
        self._sums = torch.zeros(len(self._metrics), dtype=torch.float64, device=device)
        self._cells = classes**2 if classes <= CONFUSION_CLASSES else 0
        self._confusion = torch.zeros(self._cells, dtype=torch.int64, device=device)
        self.counts = (self.seen, self.right, self._sums, self._confusion)

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Count a batch: logits ``(n, K)`` and int64 labels ``(n,)``; returns the predicted classes, int64 ``(n,)``."""
        logits = wide(logits)
        predicted = logits.topk(min(5, self.classes), dim=1).indices[:, 0]  # ties: the class that top-5 ranks first
        self._sums += torch.stack([metric(logits, labels).to(torch.float64).sum() for metric in self._metrics])
        self.seen.index_add_(0, labels, torch.ones_like(labels))
        self.right.index_add_(0, labels, (predicted == labels).to(torch.int64))
        if self._cells:
            self._confusion.index_add_(0, labels * self.classes + predicted, torch.ones_like(labels))
        return predicted

    def scores(self, count: int) -> Scores:
        """The scores of a split of ``count`` images; it is asserted that this many were counted."""
        scored, sums = int(self.seen.sum()), self._sums.cpu().tolist()
        assert scored == count, f"scored {scored} images of a split of {count}"
        return Scores(
            count=scored,
            top1=int(self.right.sum()) / scored,
            means={metric.name: total / scored for metric, total in zip(self._metrics, sums, strict=True)},
            recall=(self.right.to(torch.float64) / self.seen).cpu(),
            confusion=self._confusion.view(self.classes, self.classes).cpu() if self._cells else None,
        )


@torch.no_grad()
def evaluate(
    network: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    count: int,
    classes: int,
    place: Place,
    autocast: Callable[[], torch.autocast],
    flip: bool = False,
) -> Scores:
    """Score this rank's batches and add up over all ranks; the network's buffers are averaged over ranks before.

    Args:
        network: the module itself, not its DDP wrapping: ranks may have different numbers of batches.
        batches: this rank's share: inputs ``(n, C, H, W)`` and int64 labels ``(n,)``, on the place's device.
        count: images of the whole split; it is asserted that this many were scored.
        classes: K.
        place: where this process stands.
        autocast: makes the forward pass's autocast context.
        flip: average the logits of every image and its mirror image.
    """
    buffers.average(network, place)
    training = network.training
    network.eval()
    tally = Tally(classes, place.device)
    for x, labels in batches:
        with autocast():
            answer = logits(network, x, classes, flip)
        tally.add(answer, labels)
    network.train(training)
    place.sum(*tally.counts)
    return tally.scores(count)

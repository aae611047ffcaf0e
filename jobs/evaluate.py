"""Exact evaluation: every image once, whatever the number of workers; integer counts, float64 loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from jobs import buffers
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
        loss: mean cross-entropy with the hard labels.
        top1, top5: fractions; ``top5`` is None for fewer than six classes, where it says nothing.
        recall: float64 ``(K,)``, NaN for a class without images.
        confusion: int64 ``(K, K)``, true class by predicted class; None for more than ``CONFUSION_CLASSES`` classes.
    """

    count: int
    loss: float
    top1: float
    top5: float | None
    recall: torch.Tensor
    confusion: torch.Tensor | None

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
        """The scalars, named ``<split>/...``; recall by class is apart (:meth:`recalls`)."""
        values = {"loss": self.loss, "top1": self.top1, "balanced_accuracy": self.balanced_accuracy}
        if self.top5 is not None:
            values["top5"] = self.top5
        return {f"{split}/{name}": value for name, value in values.items()}


class Tally:
    """What is counted of a split, batch by batch; all of it can be added up over ranks.

    Attributes:
        seen, right: int64 ``(K,)``: images of each class, and those of them that were recognised.
        counts: all tensors, on the device, in which another tally can be added.
    """

    def __init__(self, classes: int, device: torch.device) -> None:
        self.classes = classes
        self.seen = torch.zeros(classes, dtype=torch.int64, device=device)
        self.right, self._right5 = torch.zeros_like(self.seen), torch.zeros((), dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._cells = classes**2 if classes <= CONFUSION_CLASSES else 0
        self._confusion = torch.zeros(self._cells, dtype=torch.int64, device=device)
        self.counts = (self.seen, self.right, self._right5, self._loss, self._confusion)

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Count a batch: logits ``(n, K)`` and int64 labels ``(n,)``; returns the predicted classes, int64 ``(n,)``."""
        logits = wide(logits)
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        ranked = logits.topk(min(5, self.classes), dim=1).indices
        hits = ranked == labels[:, None]
        self._loss += losses.to(torch.float64).sum()
        self.seen.index_add_(0, labels, torch.ones_like(labels))
        self.right.index_add_(0, labels, hits[:, 0].to(torch.int64))
        self._right5 += hits.sum()
        if self._cells:
            self._confusion.index_add_(0, labels * self.classes + ranked[:, 0], torch.ones_like(labels))
        return ranked[:, 0]

    def scores(self, count: int) -> Scores:
        """The scores of a split of ``count`` images; it is asserted that this many were counted."""
        scored = int(self.seen.sum())
        assert scored == count, f"scored {scored} images of a split of {count}"
        return Scores(
            count=scored,
            loss=float(self._loss) / scored,
            top1=int(self.right.sum()) / scored,
            top5=int(self._right5) / scored if self.classes > 5 else None,
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

"""Exact evaluation: every image once, whatever the number of workers; integer counts, float64 loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

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
    """Score this rank's batches and add up over all ranks.

    Args:
        network: the module itself, not its DDP wrapping: ranks may have different numbers of batches.
        batches: this rank's share: inputs ``(n, C, H, W)`` and int64 labels ``(n,)``, on the place's device.
        count: images of the whole split; it is asserted that this many were scored.
        classes: K.
        place: where this process stands.
        autocast: makes the forward pass's autocast context.
        flip: average the logits of every image and its mirror image.
    """
    place.share_buffers(network)
    training = network.training
    network.eval()
    device = place.device
    top = min(5, classes)
    seen = torch.zeros(classes, dtype=torch.int64, device=device)
    right, right5 = torch.zeros_like(seen), torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    cells = classes**2 if classes <= CONFUSION_CLASSES else 0
    confusion = torch.zeros(cells, dtype=torch.int64, device=device)
    for x, labels in batches:
        with autocast():
            logits = (network(x) + network(x.flip(3))) / 2 if flip else network(x)
        logits = logits.to(torch.float32 if logits.dtype.itemsize < 4 else logits.dtype)
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        ranked = logits.topk(top, dim=1).indices
        hits = ranked == labels[:, None]
        loss += losses.to(torch.float64).sum()
        seen.index_add_(0, labels, torch.ones_like(labels))
        right.index_add_(0, labels, hits[:, 0].to(torch.int64))
        right5 += hits.sum()
        if cells:
            confusion.index_add_(0, labels * classes + ranked[:, 0], torch.ones_like(labels))
    network.train(training)
    place.sum(seen, right, right5, loss, confusion)
    scored = int(seen.sum())
    assert scored == count, f"scored {scored} images of a split of {count}"
    return Scores(
        count=scored,
        loss=float(loss) / scored,
        top1=int(right.sum()) / scored,
        top5=int(right5) / scored if classes > 5 else None,
        recall=(right / seen).to("cpu", torch.float64),
        confusion=confusion.view(classes, classes).cpu() if cells else None,
    )

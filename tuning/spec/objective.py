"""What a search optimises: a metric and which way is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator

from jobs.base import Spec
from jobs.metrics import METRICS as OF_A_SPLIT
from jobs.words import nearest, suggestion

Mode = Literal["max", "min"]

METRICS: dict[str, Mode] = {
    **dict.fromkeys(("val/top1", "val/balanced_accuracy", "images_per_s"), "max"),
    **{f"val/{metric.name}": metric.better for metric in OF_A_SPLIT},
    **dict.fromkeys(("train/loss", "train/loss_hard", "train/loss_distillation", "epoch_s"), "min"),
    **dict.fromkeys(("seconds", "parameters"), "min"),
}
"""Metrics that every trial has, and which way each is better; ``seconds`` (of the trial) and ``parameters`` (of the
network) are added by the search. Recall by class is known too: ``val/recall/<class>``."""

_RECALL = "val/recall/"


def check_metric(metric: str, mode: Mode) -> None:
    """Refuse what cannot be optimised.

    Raises:
        ValueError: test steers nothing, there is no such metric, or the mode would look for the worst.
    """
    if metric.startswith("test/"):
        raise ValueError(
            f"metric {metric} cannot steer a search: the test split is scored once, at the end; take val/{metric[5:]}"
        )
    better = "max" if metric.startswith(_RECALL) else METRICS.get(metric)
    if better is None:
        cure = suggestion(metric, METRICS, f"there is {', '.join(METRICS)} and val/recall/<class>", 1)
        raise ValueError(f"metric {metric} is unknown; {cure}")
    if better != mode:
        way = "larger" if better == "max" else "smaller"
        raise ValueError(f"metric {metric} is better when it is {way}: set mode to {better}, got {mode}")


def check_class(metric: str, classes: Sequence[str]) -> None:
    """Refuse the recall of a class that is not there, or of one of too many, and what so few classes do not have.

    Raises:
        ValueError: no trial would have that metric.
    """
    from jobs.evaluate import RECALL_CLASSES  # torch

    least = {f"val/{each.name}": each.min_classes for each in OF_A_SPLIT}.get(metric, 0)
    if len(classes) < least:
        raise ValueError(f"metric {metric} is not recorded of fewer than {least} classes; take val/top1")
    if not metric.startswith(_RECALL):
        return
    if len(classes) > RECALL_CLASSES:
        raise ValueError(
            f"metric {metric}: no recalls are recorded of more than {RECALL_CLASSES} classes; take val/top1"
        )
    if (name := metric.removeprefix(_RECALL)) not in classes:
        near = nearest(name, classes) or list(classes[:10])
        raise ValueError(f"metric {metric}: there is no class {name!r}; there is {', '.join(near)}")


class Objective(Spec):
    """A metric to optimise."""

    metric: str
    """Name of the metric, such as val/top1."""
    mode: Mode
    """Whether a higher or a lower value is better."""

    def worth(self, value: float) -> float:
        """The value so that more is better; -inf for NaN, which is the worst there is."""
        if math.isnan(value):
            return -math.inf
        return value if self.mode == "max" else -value

    @model_validator(mode="after")
    def _usable(self) -> Self:
        check_metric(self.metric, self.mode)
        return self

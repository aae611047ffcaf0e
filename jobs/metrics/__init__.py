"""Metrics of a split, beside top-1 accuracy and the recall of each class, which ``jobs.evaluate`` counts itself."""

from jobs.metrics.loss import Loss
from jobs.metrics.metric import Metric
from jobs.metrics.top5 import Top5

METRICS: tuple[Metric, ...] = (Loss(), Top5())
"""Recorded as ``val/<name>`` and ``test/<name>``, printed by ``orchestrator evaluate``, and known to searches."""

__all__ = ["METRICS", "Loss", "Metric", "Top5"]

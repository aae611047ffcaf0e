"""The best value of a run and its epoch, as series of their own: MLflow shows and sorts by a series' newest value.

The metric is validation accuracy, or what the run's tag ``objective`` names: a metric and which way is better, such as
``val/loss min``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from jobs.report import Record

OBJECTIVE = "objective"
"""Name of the tag."""
DEFAULT = "val/top1 max"
EPOCH = "best/epoch"


class Best:
    """Follows the records of a run.

    Args:
        objective: the tag's value.
        known: what is recorded already.
    """

    def __init__(self, objective: str, known: Iterable[Record] = ()) -> None:
        self.metric, mode = objective.rsplit(" ", 1)
        self._sign = 1.0 if mode == "max" else -1.0
        self._worth = -math.inf
        self.of(known)

    def of(self, records: Iterable[Record]) -> list[Record]:
        """The two records that each new best among these adds; the first of equal values is the best."""
        found: list[Record] = []
        for record in records:
            worth = self._sign * record.value
            if record.name == self.metric and math.isfinite(worth) and worth > self._worth:
                self._worth = worth
                found.append(Record(f"best/{self.metric}", record.step, record.value, record.time))
                found.append(Record(EPOCH, record.step, float(record.step), record.time))
        return found

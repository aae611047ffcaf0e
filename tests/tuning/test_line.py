"""What a trial's loop reports to Tune."""

from __future__ import annotations

import json
from typing import Any, cast

from jobs.report import CONTINUE, Record, Report
from tuning.run.line import ToTune


def test_seconds_are_of_all_epochs_also_of_those_that_are_not_evaluated() -> None:
    said: list[dict[str, Any]] = []
    report = ToTune(cast(Any, Report()), lambda result: bool(said.append(result)), {"parameters": 7.0})
    epochs = [[Record("epoch_s", epoch, 10.0)] for epoch in range(1, 6)]
    for evaluated in (2, 4, 5):
        epochs[evaluated - 1].append(Record("val/loss", evaluated, 1.0))
    report.record([record for epoch in epochs[:3] for record in epoch])  # what a resumed trial had before
    for epoch in epochs[3:]:
        assert report.record(epoch) is CONTINUE
    seconds = {result["epoch"]: json.loads(result["values"])["seconds"] for result in said}
    assert seconds == {2: 20.0, 4: 40.0, 5: 50.0}

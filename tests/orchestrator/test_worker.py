"""The body of a worker, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.place import Place
from orchestrator.execution.answer import Answer
from orchestrator.execution.worker import MEMORY_CURE, ToRecorder, work
from tests.orchestrator.real import job


def test_a_job_too_large_for_the_gpu_fails_at_once_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:  # a mock: a CPU's memory never ends like this
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nmore")

    monkeypatch.setattr("jobs.train.train", full)
    monkeypatch.setattr(Place, "broadcast", lambda self, value: value)
    spec, report = job("resources.workers=1"), ToRecorder(None, "x", str(tmp_path), 1)
    data = spec.data.open()
    answer = work(spec, Place(), report, report, data)
    assert answer == Answer(failure=f"CUDA out of memory. Tried to allocate 9.00 GiB. {MEMORY_CURE}", kind="memory")
    with pytest.raises(torch.OutOfMemoryError):  # one rank of several: the others would wait for it
        work(spec, Place(0, 2), report, report, data)

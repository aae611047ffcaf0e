"""What trials leave behind is looked at a bounded number of times, however many trials a search has."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.runs import storage
from tuning.run import leftovers
from tuning.run.leftovers import Leftovers
from tuning.run.results import Trial


def ended(ordinal: int, stopped_by: str | None = None) -> Trial:
    trial = Trial(ordinal, f"s-{ordinal:04d}", {})
    trial.status, trial.stopped_by = "FINISHED", stopped_by
    return trial


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The runs whose models were measured so far."""
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    seen: list[str] = []
    size = storage.size

    def counted(run: str, where: str | None, part: str = "") -> int:
        seen.append(run)
        return size(run, where, part)

    monkeypatch.setattr(leftovers.storage, "size", counted)
    return seen


def test_a_trial_that_came_to_its_end_is_looked_at_once_and_at_the_last(looked: list[str]) -> None:
    made, trials = Leftovers(None, 2**20), [ended(ordinal) for ordinal in range(20)]
    for count in range(1, 21):
        made.sweep(trials[:count], last=False)
    assert sorted(looked) == [trial.run for trial in trials]
    made.sweep(trials, last=True)
    assert len(looked) == 40


def test_a_checkpoint_that_a_stopped_trial_wrote_late_goes_and_its_looks_are_bounded(
    looked: list[str], tmp_path: Path
) -> None:
    made, trial = Leftovers(None, 2**20), ended(0, "asha")
    made.sweep([trial], last=False)
    late = tmp_path / "runs" / trial.run / "checkpoints" / "step_9"
    late.mkdir(parents=True)
    made.sweep([trial], last=False)
    assert not late.parent.exists()
    for _ in range(50):
        made.sweep([trial], last=False)
    assert len(looked) == 10
    late.mkdir(parents=True)
    made.sweep([trial], last=True)
    assert not late.parent.exists()

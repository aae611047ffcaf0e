"""The face for notebooks: its page is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import orchestrator
from jobs.spec import JobSpec
from orchestrator.notebook import train
from tests.orchestrator.real import DIGITS, ROOT, job
from tuning.notebook import search

pytestmark = pytest.mark.slow


def test_the_page_runs_as_it_stands(cluster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    result, outcome, judged, model = (names[name] for name in ("result", "outcome", "judged", "model"))
    assert result.status == "FINISHED"
    assert judged.metrics["top1"] == result.metrics["test/top1"] > 0.5  # exactly what the run itself recorded
    assert [trial.params for trial in outcome.trials] == [{"batch.label_smoothing.epsilon": e} for e in (0.0, 0.1)]
    assert outcome.report.exists()
    assert len(model.classes) == 10
    assert result.run in capsys.readouterr().out


def test_a_wrong_spec_raises_before_anything_starts(home: Path):
    with pytest.raises(ValueError, match="epocs"):
        train({**job().model_dump(mode="json"), "epocs": 3})
    with pytest.raises(ValueError, match="lr"):
        train(ROOT / DIGITS, {"optimizer.lr": -1.0})
    with pytest.raises(ValueError, match="JobSpec"):
        train(7)
    assert not home.exists()


def test_a_search_is_given_or_resumed():
    with pytest.raises(ValueError, match="give a search"):
        search()
    with pytest.raises(ValueError, match="give a search"):
        search("search.yaml", resume="search")


def test_a_failed_run_raises_with_its_first_cause(cluster: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(RuntimeError, match=r"failed: .*loss is"):
        train(JobSpec.model_validate(job("epochs=2", "optimizer.lr=1e18", "resources.workers=1").model_dump()))


def test_what_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        orchestrator.nothing_of_that_name  # noqa: B018

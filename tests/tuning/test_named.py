"""A search by its name, a second time."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import specfile
from jobs.paths import absolute
from orchestrator.home import run_folder
from tests.orchestrator.real import DIGITS, ROOT
from tuning.run.history import History
from tuning.run.named import begun
from tuning.spec.search import SearchSpec


def write(spec: SearchSpec) -> None:
    """Note down that the search began."""
    run_folder(spec.name).mkdir(parents=True, exist_ok=True)
    history = History(run_folder(spec.name))
    whole = absolute(spec.whole())
    history.add("search", spec=spec.absolute().model_dump(mode="json"), base=whole.model_dump(mode="json"))
    history.close()


def test_a_job_that_was_edited_since_is_no_reason_to_train_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    job, path = tmp_path / "job.yaml", tmp_path / "search.yaml"
    text = (ROOT / DIGITS).read_text()
    job.write_text(text)
    path.write_text(
        f"name: nightly\njob: {job}\nspace: {{optimizer.lr: {{kind: loguniform, low: 0.01, high: 0.1}}}}\n"
        "budget: {trials: 2}\n"
    )
    spec = specfile.read(path, SearchSpec)
    assert begun(spec) is None
    write(spec)
    job.write_text(text.replace("batch_size: 64", "batch_size: 32"))
    assert begun(spec) is None, "nothing was trained yet: what was wrong may have been put right"
    write(spec)
    history = History.look(run_folder("nightly"))
    assert history.spec is not None and history.spec.whole().batch_size == 32

    (run_folder("nightly") / "journal.jsonl").touch()
    assert begun(spec) is not None
    job.write_text(text)
    with pytest.raises(ValueError, match=r"spec or job than its own; they differ in\n  batch_size: 32 there, 64 here"):
        begun(spec)

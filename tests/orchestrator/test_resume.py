"""With what a run may go on: its own spec, and changes that leave what it computes as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import specfile
from jobs.spec import JobSpec
from orchestrator.home import run_folder
from orchestrator.runs import resume
from orchestrator.tracking.recorder import Recorder
from orchestrator.tracking.state import Status
from tests.orchestrator.real import job

pytestmark = pytest.mark.usefixtures("home")


def begun(name: str, spec: JobSpec, status: Status | None = "KILLED") -> Recorder:
    recorder = Recorder(run_folder(name), ship=False)
    recorder.begin(name, "default", params=spec.flatten())
    (run_folder(name) / resume.SPEC).write_text(specfile.dump(spec))
    if status:
        recorder.end(status)
        recorder.close()
    return recorder


def test_a_runs_own_spec_changes_nothing() -> None:
    spec = job("budget.hours=1.5", "tracking.experiment=mine")
    begun("a", spec)
    assert resume.changes("a", spec) == {}
    assert specfile.read(resume.stored("a"), JobSpec) == spec


def test_searches_and_their_trials_are_resumed_by_the_search() -> None:
    """The search would not know of it, and train that trial again."""
    for name, parent, tags in (
        ("hunt", None, {"kind": "search"}),
        ("hunt-0000", "hunt", {"ordinal": "0"}),
        ("hunt-base", "hunt", {"role": "base"}),
        ("hunt-teacher", "hunt", {}),
    ):
        recorder = Recorder(run_folder(name), ship=False)
        recorder.begin(name, "default", parent=parent, tags=tags)
        if parent:
            (run_folder(name) / resume.SPEC).write_text(specfile.dump(job()))
        recorder.end("KILLED")
        recorder.close()
    with pytest.raises(ValueError, match="hunt is a search; resume it with: orchestrator search resume hunt"):
        resume.stored("hunt")
    for name in ("hunt-0000", "hunt-base"):
        with pytest.raises(ValueError, match=f"{name} is of search hunt; resume that with: orchestrator search resume"):
            resume.changes(name, job())
    assert resume.changes("hunt-teacher", job()) == {}


def test_a_finished_run_is_what_the_command_says() -> None:
    begun("done", job("compile=false"), "FINISHED")
    resume.check_finished("done", resume.settled("done", job("compile=auto", "budget.hours=1")))
    with pytest.raises(
        ValueError, match=r"FINISHED, with another spec.*\n  optimizer\.lr: 0\.1 in the run, 0\.2 here\nTo train"
    ):
        resume.check_finished("done", job("optimizer.lr=0.2", "compile=false"))


def test_the_form_of_images_that_weights_brought_is_no_difference() -> None:
    weights = "model.pretrained={kind: file, path: /gone.pth}"
    with_form = job(weights, "data.mean=[0.5]", "data.std=[0.25]")
    begun("tuned", with_form, "FINISHED")
    resume.check_finished("tuned", resume.settled("tuned", job(weights)))
    with pytest.raises(ValueError, match=r"data\.mean"):
        resume.check_finished("tuned", resume.settled("tuned", job(weights, "data.mean=[0.1]")))


def test_what_computes_the_same_may_change() -> None:
    begun("a", job())
    free = ("resources.workers=1", "accumulation=2", "budget.hours=3", "evaluation.batch_size=100")
    assert resume.changes("a", job(*free)) == {
        "accumulation": (1, 2),
        "budget.hours": (None, 3.0),
        "evaluation.batch_size": (500, 100),
        "resources.workers": (2, 1),
    }
    stopping = resume.changes("a", job("early_stopping.patience_epochs=4"))
    assert stopping["early_stopping.patience_epochs"] == (None, 4)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("optimizer.lr=0.2", "optimizer.lr: 0.1 in the run, 0.2 here"),
        ("epochs=30", "epochs: 15 in the run, 30 here"),
        ("batch.mixup=true", "batch.mixup.alpha: None in the run, "),
        ("ema={}", "ema.decay: None in the run, 0.999 here"),
        ("tracking.experiment=other", "tracking.experiment: 'default' in the run, 'other' here"),
        ("evaluation.every_epochs=3", "evaluation.every_epochs: 1 in the run, 3 here"),
    ],
)
def test_what_would_be_another_run_is_refused_field_by_field(change: str, line: str) -> None:
    begun("a", job())
    with pytest.raises(ValueError, match="cannot be resumed with another spec") as caught:
        resume.changes("a", job(change, "resources.workers=1"))
    assert line in str(caught.value)
    assert "resources.workers:" not in str(caught.value)
    assert "orchestrator train --resume a " in str(caught.value)


def test_runs_that_are_over_or_under_way_are_not_resumed() -> None:
    begun("done", job(), "FINISHED")
    with pytest.raises(ValueError, match="run done is FINISHED"):
        resume.changes("done", job())
    begun("failed", job(), "FAILED")
    assert resume.changes("failed", job()) == {}
    live = begun("live", job(), None)
    with pytest.raises(ValueError, match=r"run live is still running \(pid \d+ on "):
        resume.changes("live", job())
    live.close()
    assert resume.changes("live", job()) == {}, "its driver died"


def test_a_run_that_lost_its_spec_cannot_be_resumed() -> None:
    begun("a", job())
    Path(run_folder("a") / resume.SPEC).unlink()
    with pytest.raises(ValueError, match=r"run a has no .*spec\.yaml"):
        resume.stored("a")
    with pytest.raises(ValueError, match="did you mean a"):
        resume.stored("aa")

"""Overrides of a search on the command line: names of the job's fields are keys of ``set`` and ``space``."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs import specfile
from jobs.spec import JobSpec
from orchestrator.execution.capacity import Cluster
from tuning.cli import search as commands
from tuning.run.named import new_name
from tuning.run.plan import plan
from tuning.run.prepare import prepare
from tuning.spec.check import check, check_data
from tuning.spec.objective import check_class
from tuning.spec.search import SearchSpec

JOB = """
name: digits
data: {kind: digits}
model: {kind: cnn}
optimizer: {kind: sgd, lr: 0.1}
schedule: {warmup_epochs: 2, decay: {kind: step, at_epochs: [3]}}
epochs: 5
batch_size: 64
"""
SEARCH = """
name: s
job: job.yaml
set: {schedule.warmup_epochs: 1, data: {kind: digits}}
budget: {trials: 4}
space: {optimizer.lr: {kind: loguniform, low: 0.01, high: 0.2}}
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(JOB, encoding="utf-8")
    Path("search.yaml").write_text(SEARCH, encoding="utf-8")


def search(*overrides: str) -> SearchSpec:
    return specfile.read("search.yaml", SearchSpec, overrides)


def test_what_is_set_reaches_the_job_and_leaves_the_rest() -> None:
    found = search("set.resources.workers=2", "set.epochs=4", "set.optimizer.lr=0.3", "set.batch.mixup.alpha=0.4")
    base = found.base()
    assert (base.resources.workers, base.epochs, base.optimizer.lr, base.batch[0].alpha) == (2, 4, 0.3, 0.4)
    assert base.schedule.decay.kind == "step"


def test_a_name_goes_on_from_the_longest_key_that_is_there() -> None:
    found = search("set.data.val_fraction=0.2", "space.optimizer.lr.low=0.05")
    assert found.set == {"schedule.warmup_epochs": 1, "data": {"kind": "digits", "val_fraction": 0.2}}
    assert found.axes()["optimizer.lr"].low == 0.05
    more = search("space.schedule.warmup_epochs={kind: uniform, low: 0, high: 3}")
    assert set(more.axes()) == {"optimizer.lr", "schedule.warmup_epochs"}


def test_a_teachers_changes_are_named_alike() -> None:
    teacher = "distillation.teacher={kind: job, job: job.yaml}"
    found = specfile.read("job.yaml", JobSpec, [teacher, "distillation.teacher.set.optimizer.lr=0.5"])
    assert found.distillation.teacher.set == {"optimizer.lr": 0.5}
    assert found.override(found.flatten()) == found


def test_a_field_inside_of_a_key_is_found_by_the_job_s_own_fields() -> None:
    given = "{kind: job, job: job.yaml, set: {resources.workers: 1}}"
    first = ("set={distillation.teacher: " + given + "}",)
    spec = specfile.read("search.yaml", SearchSpec, [*first, "set.distillation.teacher.set.resources.workers=2"])
    assert spec.base().distillation.teacher.set == {"resources.workers": 2}  # type: ignore[union-attr]
    spec = specfile.read("search.yaml", SearchSpec, [*first, "set.distillation.teacher.set.model.width=8"])
    assert spec.base().distillation.teacher.set == {"resources.workers": 1, "model.width": 8}  # type: ignore[union-attr]


def test_two_words_for_the_epochs_are_refused() -> None:
    with pytest.raises(specfile.SpecError, match=r"set\.epochs and budget\.epochs_per_trial say the same thing"):
        search("set.epochs=4", "budget.epochs_per_trial=3", "finish=false")
    found = search("set.epochs=4", "budget.epochs_per_trial=3")
    assert (found.base().epochs, found.whole().epochs) == (3, 4), "of a trial, and of the runs that end the search"


def test_a_field_of_the_job_is_told_where_it_belongs() -> None:
    with pytest.raises(specfile.SpecError, match=r"there is no epochs\n  .*-s set\.epochs=\.\.\."):
        search("epochs=3")


def test_a_file_of_the_other_kind_is_told_in_one_line() -> None:
    with pytest.raises(specfile.SpecError) as caught:
        specfile.read("search.yaml", JobSpec)
    assert str(caught.value).startswith("search.yaml: this is no job: job, set, space are no part of one\n")
    assert "orchestrator search launch FILE" in str(caught.value)
    with pytest.raises(specfile.SpecError, match=r"^job\.yaml: this is no search: data, .*\n.*orchestrator train"):
        specfile.read("job.yaml", SearchSpec)
    Path("nearly.yaml").write_text(JOB.replace("data:", "dta:"), encoding="utf-8")
    with pytest.raises(specfile.SpecError, match="did you mean data"):
        specfile.read("nearly.yaml", JobSpec)


@pytest.mark.parametrize("value", ["0", "two"])
def test_a_number_or_a_mapping_is_told_as_both(value: str) -> None:
    with pytest.raises(specfile.SpecError, match=r"must be an integer > 0, or a mapping with keys among min, max, got"):
        specfile.read("job.yaml", JobSpec, [f"resources.workers={value}"])


def test_a_job_that_is_not_there_is_told_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(specfile.SpecError) as caught:
        search("job=other/job.yaml").base()
    assert "it is the job of search s" in str(caught.value) and str(tmp_path) in str(caught.value).replace("\n    ", "")


def test_recall_is_of_a_class_that_is_there() -> None:
    check_class("val/top1", [])
    check_class("val/recall/cat", ["cat", "dog"])
    with pytest.raises(ValueError, match="there is no class 'cut'; there is cat"):
        check_class("val/recall/cut", ["cat", "dog"])
    check_class("val/top5", list("abcdef"))
    with pytest.raises(ValueError, match="val/top5 is not recorded of fewer than 6 classes"):
        check_class("val/top5", list("abcde"))
    with pytest.raises(ValueError, match="no recalls are recorded of more than 100 classes"):
        check_class("val/recall/0", list(map(str, range(101))))


def test_names_stay_within_what_a_spec_allows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    name = "n" * 81
    (tmp_path / "runs" / name).mkdir(parents=True)
    assert new_name(name) == "n" * 79 + "-2"


@pytest.mark.parametrize(
    ("changes", "trials", "epochs", "time"),
    [
        (
            ["searcher={kind: grid, points: 3}", "budget.trials=null"],
            "3, 5 epochs each at most",
            "15 in all at most",
            "",
        ),
        (["budget={hours: 2}"], "until the budget is spent, 5", "as many as 2 hours allow", "about 2 h 00 min"),
        (["budget={total_epochs: 12}"], "until the budget is spent, 5", "at most 12", ""),
    ],
)
def test_plans_of_grids_and_of_hours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: list[str], trials: str, epochs: str, time: str
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    lines, _ = plan(prepare(search(*changes), Cluster.at_hand()))
    assert lines["trials"].startswith(trials) and lines["epochs"] == epochs and lines["time"].startswith(time)


def test_the_plan_says_what_is_searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    lines, _ = plan(
        prepare(
            search(
                "space={batch.mixup.alpha: {kind: choice, values: [0.1, 0.4]}, optimizer.lr: "
                "{kind: loguniform, low: 0.01, high: 1}}"
            ),
            Cluster.at_hand(),
        )
    )
    assert lines["space"] == "batch.mixup.alpha: one of 0.1, 0.4; optimizer.lr: loguniform 0.01 to 1"


def planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *changes: str) -> dict[str, str]:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    monkeypatch.setattr("tuning.run.plan.images_per_s", lambda *_: 1000.0)
    return plan(prepare(search(*changes), Cluster.at_hand()))[0]


FEW = "space={optimizer.lr: {kind: choice, values: [0.05, 0.1]}, batch_size: {kind: integers, low: 16, high: 17}}"


@pytest.mark.parametrize(
    ("searcher", "trials"),
    [
        ("{kind: tpe}", "4, 5 epochs each at most; the space has 4 different points, and the search ends after them"),
        ("{kind: grid}", "4, 5 epochs each at most; the space has 4 different points, and the search ends after them"),
        (
            "{kind: sobol}",
            "9, 5 epochs each at most; of 4 different points, so some are tried again: searcher kind grid",
        ),
    ],
)
def test_the_plan_counts_different_points(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, searcher: str, trials: str
) -> None:
    lines = planned(monkeypatch, tmp_path, FEW, "budget.trials=9", f"searcher={searcher}")
    assert lines["trials"].startswith(trials)
    assert lines["final"] == "winner and base to the job's own 5 epochs, 10 more at most, scored on the test split"
    assert lines["epochs"].startswith("45" if "sobol" in searcher else "20")
    enough = planned(monkeypatch, tmp_path, FEW, "budget.trials=3", f"searcher={searcher}")
    assert enough["trials"] == "3, 5 epochs each at most"


def test_a_grid_leaves_out_what_was_a_start_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    start = "start_from={points: [{optimizer.lr: 0.1, batch_size: 17}]}"
    assert planned(monkeypatch, tmp_path, FEW, "budget.trials=9", start, "searcher={kind: grid}")["trials"][0] == "4"
    found = search(FEW, start, "searcher={kind: grid}")
    asked = [found.build(found.base(), found.start_from.points).ask(ordinal) for ordinal in range(5)]
    points = [{"optimizer.lr": lr, "batch_size": size} for lr, size in ((0.1, 17), (0.05, 16), (0.05, 17), (0.1, 16))]
    assert asked == [*points, None]


def test_a_start_point_is_given_once() -> None:
    again = "start_from={points: [{optimizer.lr: 0.1}, {optimizer.lr: 0.05}, {optimizer.lr: 0.1}]}"
    with pytest.raises(specfile.SpecError, match=r"start_from\.points\[2\]: it is the same as start_from\.points\[0\]"):
        check(search(again))
    more = "space.schedule.warmup_epochs={kind: uniform, low: 0, high: 2}"
    check(search(more, "set={}", again))  # what a point leaves out is drawn, so these differ


def test_ends_are_tried_on_the_opened_training_split() -> None:
    found = search(
        "space={batch_size: {kind: choice, values: [16, 2048]}, optimizer.lr: {kind: uniform, low: 0.1, high: 0.2}}"
    )
    check(found)
    with pytest.raises(specfile.SpecError) as caught:
        check_data(found, 1293)
    assert str(caught.value) == (
        "space.batch_size at 2048: batch_size 2048 is more than the 1293 images of the training split; "
        "set batch_size to at most 1293"
    )
    check_data(found, 4096)
    other = search(
        "space={batch_size: {kind: choice, values: [16, 2048]}, data: {kind: fixed, value: {kind: digits}}}", "set={}"
    )
    check_data(other, 4096)


WARMUP = "space={schedule.warmup_epochs: {kind: uniform, low: 0, high: 0.5}}"
SHORT = ("set={}", "budget.epochs_per_trial=1")


def test_what_the_space_varies_is_judged_by_its_ends() -> None:
    """The job has two epochs of warmup, which no trial of one epoch gets."""
    found = search(WARMUP, *SHORT)
    check(found)
    assert (found.base().epochs, found.whole().schedule.warmup_epochs) == (1, 2)
    assert found.trial({"schedule.warmup_epochs": 0.5}).schedule.warmup_epochs == 0.5
    check(search("space=null", *SHORT))
    begun = found.begun_with(found.whole())
    assert begun.base() == found.base(), "resumed"


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        (("space={optimizer.lr: {kind: uniform, low: 0.1, high: 0.2}}", *SHORT), "job.yaml:6"),
        (
            ("space={schedule.warmup_epochs: {kind: uniform, low: 0, high: 2}}", *SHORT),
            "space.schedule.warmup_epochs at 2",
        ),
    ],
)
def test_a_conflict_with_few_epochs_names_both_sides(changes: tuple[str, ...], source: str) -> None:
    with pytest.raises(specfile.SpecError) as caught:
        check(search(*changes))
    assert str(caught.value).startswith(source)
    assert "schedule.warmup_epochs 2 must be less than epochs 1" in str(caught.value)
    assert "budget.epochs_per_trial sets epochs to 1: raise it, or lower the other side" in str(caught.value)


def test_plan_has_the_remarks_that_launch_makes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    monkeypatch.setattr("tuning.run.plan.images_per_s", lambda *_: 1000.0)
    never = "space.distillation.temperature={kind: uniform, low: 1, high: 2, when: {distillation: present}}"
    done = CliRunner().invoke(commands, ["plan", "search.yaml", "-s", never])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("note         distillation.temperature is never drawn")

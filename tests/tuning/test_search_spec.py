"""Search specs: what they are made of, what is refused and how it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from jobs.paths import absolute
from jobs.specfile import SpecError, dump, read, schema
from jobs.specfile.yaml import parse
from orchestrator.execution.capacity import Cluster
from tuning.run.plan import plan
from tuning.run.prepare import prepare
from tuning.spec.check import check
from tuning.spec.search import SearchSpec

ROOT = Path(__file__).parents[2]
SEARCHES = ROOT / "tuning" / "searches"
DIGITS = "jobs/recipes/digits.yaml"
TEACHER = {"teacher": {"kind": "job", "job": "jobs/recipes/digits_teacher.yaml"}}
ALPHA = {"kind": "loguniform", "low": 0.01, "high": 1}


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def search(**fields: Any) -> SearchSpec:
    return SearchSpec.model_validate({"name": "x", "job": DIGITS, "budget": {"trials": 4}, **fields})


def refusal(**fields: Any) -> str:
    with pytest.raises(SpecError) as caught:
        check(search(**fields))
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(SEARCHES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(SEARCHES)))
def test_searches(path: Path) -> None:
    spec = read(path, SearchSpec)
    assert check(spec) == ()
    axes = {"schedule.warmup_epochs", "batch.label_smoothing.epsilon", "batch.mixup.alpha", "distillation.temperature"}
    assert axes <= set(spec.axes())
    assert spec.base().distillation is not None
    validator = jsonschema.Draft202012Validator(schema(SearchSpec))
    tree, _ = parse(path.read_text(encoding="utf-8"))
    assert tree is not None
    for data in (tree.value, spec.model_dump(mode="json")):
        validator.validate(data)
        assert not validator.is_valid({**data, "jobs": 3})


def test_a_benchmark_that_is_a_search() -> None:
    spec = read(ROOT / "benchmarks" / "prepared.yaml", SearchSpec)
    assert check(spec) == ()
    assert spec.arms is not None
    arms = {name: spec.base().override(changes) for name, changes in spec.arms.jobs.items()}
    assert {name: job.data.prepare for name, job in arms.items()} == {"originals": False, "prepared": "auto"}


def test_there_are_searches() -> None:
    assert {path.name for path in SEARCHES.rglob("*.yaml")} >= {"digits.yaml", "cifar10.yaml"}


def test_dump_reads_back(tmp_path: Path) -> None:
    spec = search(
        space={"distillation": {"kind": "choice", "values": [None, TEACHER]}, "batch.mixup.alpha": ALPHA},
        start_from={"points": [{"distillation": None}]},
    )
    objectives = [{"metric": "val/top1", "mode": "max"}, {"metric": "val/recall/3", "mode": "max"}]
    for one in (spec, search(objectives=objectives), search(metric="val/loss", mode="min", space=None)):
        (tmp_path / "x.yaml").write_text(dump(one), encoding="utf-8")
        assert read(tmp_path / "x.yaml", SearchSpec) == one == SearchSpec.model_validate_json(one.model_dump_json())


def test_the_base_is_the_recipe_with_changes() -> None:
    base = search(set={"optimizer.lr": 0.3, "ema": {"decay": 0.9}}, budget={"trials": 1, "epochs_per_trial": 4}).base()
    assert (base.optimizer.lr, base.epochs, base.name) == (0.3, 4, "digits")
    assert base.ema is not None and base.ema.decay == 0.9
    assert search().base().epochs == 15


def test_a_trial_is_the_base_with_parameters() -> None:
    spec = search(set={"distillation": TEACHER})
    params = {"batch.mixup.alpha": 0.4, "distillation.temperature": 7.5, "schedule.warmup_epochs": 2.5}
    job = spec.trial(params)
    assert job == spec.trial(params, spec.base())
    assert job.distillation is not None and job.distillation.temperature == 7.5
    assert [trick.kind for trick in job.batch] == ["label_smoothing", "mixup"]
    assert job.batch[1].alpha == 0.4 and job.schedule.warmup_epochs == 2.5
    with pytest.raises(ValidationError, match="warmup_epochs 15 must be less than epochs 15"):
        spec.trial({"schedule.warmup_epochs": 15})


def test_the_default_space() -> None:
    plain, taught = search(), search(set={"distillation": TEACHER})
    assert {name: axis.kind for name, axis in plain.axes().items()} == {
        "schedule.warmup_epochs": "uniform",
        "batch.label_smoothing.epsilon": "uniform",
        "batch.mixup.alpha": "loguniform",
    }
    axes = taught.axes()
    assert list(axes)[3:] == ["distillation.temperature", "distillation.weight"]
    assert axes["batch.label_smoothing.epsilon"].ends()[0] == 0
    assert len(axes["batch.mixup.alpha"].ends()) == 4
    assert axes["distillation.temperature"].ends() == (1, 20)
    assert check(plain) == check(taught) == ()
    short = search(budget={"trials": 1, "epochs_per_trial": 2})
    assert short.axes()["schedule.warmup_epochs"].ends() == (0, 2 / 3) and check(short) == ()


def test_every_problem_is_told_at_once_in_the_job_s_words() -> None:
    told = refusal(
        set={"optimizer.momentum": 0.8},
        space={
            "schedule.warmup_epochs": {"kind": "uniform", "low": 0, "high": 20},
            "batch.mixup.alpha": {"kind": "loguniform", "low": 1e-9, "high": 1e9},
            "schedule.warmup_epoch": {"kind": "fixed", "value": 1},
            "optimizer.momentum": {"kind": "uniform", "low": 0.5, "high": 0.9},
            "optimizer.betas": {"kind": "fixed", "value": [0.9, 0.99]},
            "model.width": {"kind": "integers", "low": 8, "high": 64, "when": {"model.knd": "cnn"}},
            "distillation.temperature": {"kind": "uniform", "low": 1, "high": 20},
            "tracking.uri": {"kind": "choice", "values": [None, "file:x"]},
        },
        scheduler={"kind": "asha", "grace_epochs": 15},
    )
    for line in [
        "space.schedule.warmup_epochs at 20.0: schedule.warmup_epochs 20 must be less than epochs 15",
        "space.batch.mixup.alpha at 1e-09: batch.mixup.alpha must be a number >= 0.0001 and <= 10000, got 1e-09",
        "space.batch.mixup.alpha at 1000000000.0: batch.mixup.alpha must be",
        "space.schedule.warmup_epoch: there is no schedule.warmup_epoch\n  did you mean schedule.warmup_epochs?",
        "space.optimizer.momentum: optimizer.momentum is in set as well",
        "space.optimizer.betas at [0.9, 0.99]: unknown key optimizer.betas\n  betas belongs to kind ",
        "space.model.width.when: there is no model.knd\n  did you mean model.kind?",
        "space.distillation.temperature at 1.0: distillation.teacher is missing",
        "or draw distillation.temperature only with one: `when: {distillation:",
        "space.tracking.uri: tracking.uri is the same for all trials",
        "scheduler: grace_epochs 15 must be less than the 15 epochs of a trial",
    ]:
        assert line in told, f"{line!r} is not in:\n{told}"


def test_a_range_is_tried_in_the_branch_where_it_is_drawn() -> None:
    distillation = {"kind": "choice", "values": [None, TEACHER]}
    hot = {"kind": "uniform", "low": 1, "high": 1000, "when": {"distillation": "present"}}
    told = refusal(space={"distillation": distillation, "distillation.temperature": hot})
    assert told.startswith("space.distillation.temperature at 1000.0: distillation.temperature must be a number >= 0.1")
    assert "problems" not in told
    fine = {**hot, "high": 20}
    assert check(search(space={"distillation": distillation, "distillation.temperature": fine})) == ()
    told = refusal(space={"distillation.temperature": fine, "distillation": distillation})
    assert "space.distillation.temperature.when: distillation is drawn only after distillation.temperature" in told
    (remark,) = check(search(space={"distillation.temperature": fine}))
    assert remark.startswith("distillation.temperature is never drawn") and "(distillation: present)" in remark


def test_branches_within_branches() -> None:
    space = {
        "optimizer.kind": {"kind": "choice", "values": ["sgd", "adamw"]},
        "optimizer.lr": {"kind": "fixed", "value": 0.001, "when": {"optimizer.kind": "adamw"}},
        "optimizer.betas": {"kind": "choice", "values": [[0.9, 0.99], [0.9, 2]], "when": {"optimizer.lr": 0.001}},
    }
    told = refusal(space=space)
    assert "space.optimizer.betas at [0.9, 2]: optimizer.betas[1] must be a number >= 0 and < 1, got 2" in told
    assert "space.optimizer.betas at [0.9, 0.99]" not in told


def test_what_fits_alone_but_not_together() -> None:
    space = {
        "epochs": {"kind": "integers", "low": 5, "high": 30},
        "schedule.warmup_epochs": {"kind": "choice", "values": [0, 4, 5, 10]},
    }
    told = refusal(space=space)
    assert (
        "space.epochs at 5 with schedule.warmup_epochs at 5: schedule.warmup_epochs 5 must be less than epochs 5"
        in told
    )
    assert "space.epochs at 5 with schedule.warmup_epochs at 10" in told
    assert told.startswith("2 problems")
    assert "budget.epochs_per_trial sets epochs as well" in refusal(
        space={"epochs": space["epochs"]}, budget={"trials": 1, "epochs_per_trial": 9}
    )


def test_start_points() -> None:
    hot = {"kind": "uniform", "low": 1, "high": 20, "when": {"distillation": "present"}}
    space = {"batch.mixup.alpha": ALPHA, "distillation.temperature": hot}
    points = [{"batch.mixup.alpha": 0.5}, {"batch.mixup.alpha": 2.0}, {"batch.mixup.alfa": 1}]
    told = refusal(space=space, start_from={"points": [*points, {"distillation.temperature": 4}]})
    assert told.startswith("3 problems")
    assert "start_from.points[1]: batch.mixup.alpha 2.0 is outside of space.batch.mixup.alpha" in told
    assert "start_from.points[2]: batch.mixup.alfa is not in space\n  did you mean batch.mixup.alpha?" in told
    assert "start_from.points[3]: distillation.temperature is not drawn there: its condition does not hold" in told
    assert check(search(space={"batch.mixup.alpha": ALPHA}, start_from={"points": points[:1]})) == ()
    assert "trials 4 is less than the 5 start points" in refusal(space=space, start_from={"points": points[:1] * 5})


def test_the_grid_and_the_budget_are_checked() -> None:
    space = {f"optimizer.{name}": {"kind": "uniform", "low": 0.1, "high": 0.2} for name in ("lr", "momentum")}
    told = refusal(space=space, searcher={"kind": "grid", "points": 101})
    assert "searcher: the grid has more than 10,000 combinations (optimizer.lr 101 x optimizer.momentum 101)" in told
    assert check(search(space=space, searcher={"kind": "grid", "points": 100})) == ()
    assert "total_epochs 14 is less than the 15 epochs of one trial" in refusal(budget={"total_epochs": 14})


def test_the_teacher_s_job_is_read_too() -> None:
    space = {
        "distillation": {
            "kind": "choice",
            "values": [None, {"teacher": {"kind": "job", "job": "jobs/recipes/no.yaml"}}],
        }
    }
    told = refusal(space=space)
    assert "distillation.teacher.job: jobs/recipes/no.yaml: no such file" in told
    wrong = {"teacher": {**TEACHER["teacher"], "set": {"epochs": 0}}}
    assert "distillation.teacher.job: -s epochs=0: epochs must be an integer > 0 and <= 1,000,000, got 0" in refusal(
        set={"distillation": wrong}
    )


def test_a_wrong_recipe_is_told_as_such() -> None:
    assert refusal(job="jobs/recipes/digit.yaml").startswith("jobs/recipes/digit.yaml: no such file")
    assert refusal(set={"optimizer.learning": 1}).startswith("set optimizer.learning=1: there is no optimizer.learning")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"metric": "test/top1"}, "test split is scored once, at the end; take val/top1"),
        ({"metric": "val/top_1"}, "did you mean val/top1?"),
        ({"metric": "val/loss"}, "metric val/loss is better when it is smaller: set mode to min, got max"),
        ({"objectives": [{"metric": "test/top1", "mode": "max"}]}, "never|once"),
        ({"objectives": [{"metric": "val/top1", "mode": "max"}]}, "two or more different metrics"),
        ({"searcher": {"kind": "nsga2"}}, "several objectives"),
        ({"budget": {"epochs_per_trial": 3}}, "budget has no end"),
        ({"space": {}}, "at least 1"),
        ({"space": {"epochs": {"kind": "normal"}}}, "kind|tag"),
    ],
)
def test_refusals(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        search(**fields)


def test_objectives() -> None:
    objectives = [{"metric": "val/top1", "mode": "max"}, {"metric": "seconds", "mode": "min"}]
    spec = search(objectives=objectives, searcher={"kind": "nsga2"})
    assert [goal.metric for goal in spec.goals] == ["val/top1", "seconds"]
    assert [goal.metric for goal in search(metric="val/loss", mode="min").goals] == ["val/loss"]
    assert search(budget={}, searcher={"kind": "grid"}).budget.trials is None
    with pytest.raises(ValidationError, match="goes by one metric"):
        search(objectives=objectives, scheduler={"kind": "asha"})
    with pytest.raises(ValidationError, match="replace metric and mode"):
        search(objectives=objectives, metric="val/top5")


def test_absolute_paths_mean_the_same_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {"teacher": {"kind": "model", "path": "some/model"}}
    files = {"data": {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"}}
    spec = search(
        job="jobs/recipes/cifar10.yaml",
        set={**files, "data.test": "other.parquet"},
        space={"distillation": {"kind": "choice", "values": [None, stored, TEACHER]}, "batch.mixup.alpha": ALPHA},
        start_from={"points": [{"distillation": TEACHER}]},
    )
    paths = {"data.train": {"kind": "choice", "values": ["a.parquet", "b.parquet"]}}
    drawn = search(job="jobs/recipes/cifar10.yaml", set=files, space=paths).absolute()
    assert "data.train" not in drawn.set and "data.test" in drawn.set and check(drawn) == ()
    assert drawn.axes()["data.train"].ends() == (str(ROOT / "a.parquet"), str(ROOT / "b.parquet"))
    here, plain = spec.absolute(), search(job="jobs/recipes/cifar10.yaml").absolute()
    assert spec.set == {**files, "data.test": "other.parquet"}
    expected = absolute(spec.base())
    trial = absolute(spec.trial({"distillation": TEACHER}))
    monkeypatch.chdir(tmp_path)
    assert here.absolute() == here
    assert here.base() == expected
    assert here.base().data.test == str(ROOT / "other.parquet")  # type: ignore[union-attr]
    values = here.axes()["distillation"].ends()
    assert values[0] is None
    assert values[1]["teacher"]["path"] == str(ROOT / "some" / "model")
    assert here.trial({"distillation": values[2]}) == trial
    assert here.start_from.points[0]["distillation"] == values[2]
    assert check(here) == ()
    assert list(plain.space or ()) == list(search(job=str(ROOT / DIGITS)).axes())


def test_what_is_the_same_for_all_trials_is_not_varied() -> None:
    with pytest.raises(SpecError, match=r"resources\.workers is the same for all trials"):
        check(search(space={"resources.workers": {"kind": "choice", "values": [1, 2]}}))


def test_pbt_is_checked_before_anything_starts() -> None:
    good = {
        "scheduler": {"kind": "pbt", "every_epochs": 2},
        "searcher": {"kind": "random"},
        "set": {"resources.workers": 1},
        "space": {"optimizer.lr": {"kind": "loguniform", "low": 0.001, "high": 0.1}},
    }
    assert check(search(**good)) == ()
    widths = {"model.width": {"kind": "integers", "low": 8, "high": 16}}
    for change, told in (
        ({"searcher": {"kind": "tpe"}}, "draws its population once"),
        ({"set": {"resources.workers": 1, "evaluation.every_epochs": 4}}, "no multiple of evaluation.every_epochs 4"),
        ({"space": widths}, "model.width cannot change while a network is trained"),
        ({"budget": {"total_epochs": 100}}, "needs the size of its population"),
    ):
        with pytest.raises(SpecError, match=told):
            check(search(**{**good, **change}))


def test_a_loss_that_no_trial_has_is_no_goal() -> None:
    goal = {"metric": "train/loss_hard", "mode": "min", "set": {"resources.workers": 1}}
    space = {"distillation": {"kind": "choice", "values": [TEACHER]}}
    check(search(**goal, space=space))
    with pytest.raises(SpecError, match="only a job with a teacher has train/loss_hard"):
        check(search(**goal))


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_scheduler_that_would_never_see_a_value_is_refused(kind: str) -> None:
    given = {"scheduler": {"kind": kind}, "budget": {"trials": 4, "epochs_per_trial": 4}}
    check(search(**given, set={"resources.workers": 1, "evaluation.every_epochs": 3}))
    with pytest.raises(SpecError, match="every_epochs 4 leaves none of the 4 epochs of a trial to judge it at"):
        check(search(**given, set={"resources.workers": 1, "evaluation.every_epochs": 4}))


@pytest.mark.slow
def test_a_plan_remarks_on_what_trials_never_reach_but_not_on_what_they_draw() -> None:
    changes: dict[str, Any] = {"batch.mixup.off_epochs": 15, "early_stopping": {"patience_epochs": 40}}
    space = {"early_stopping.patience_epochs": {"kind": "choice", "values": [2, 3]}}
    lines, _ = plan(prepare(search(set=changes, space=space), Cluster.at_hand()))
    notes = [text for name, text in lines.items() if name.startswith("note")]
    assert notes == ["batch.mixup.off_epochs 15 of 15 epochs: the trick never acts"]

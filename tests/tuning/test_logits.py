"""What the trials of a search share of their teacher's answers: on real Ray Tune, and as the plan expects it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from jobs.logits.key import inputs
from jobs.words import byte_size
from orchestrator.execution.capacity import Cluster
from tests.tuning.test_driver import children
from tuning.run.launch import Outcome
from tuning.run.launch import search as launch
from tuning.run.plan import expected_trials, plan, stages
from tuning.run.prepare import prepare
from tuning.run.sharing import Sharing, sequences, sharing
from tuning.searchers import Random
from tuning.spec.search import SearchSpec
from tuning.spec.space import draw

DIGITS = "jobs/recipes/digits.yaml"
TEACHER: dict[str, Any] = {
    "kind": "job",
    "job": "jobs/recipes/digits_teacher.yaml",
    "set": {"name": "small-teacher", "epochs": 2, "model.width": 8},
}
TAUGHT = {"resources.workers": 1, "model.width": 8, "distillation.teacher": TEACHER}
TEMPERATURES = {"distillation.temperature": {"kind": "choice", "values": [2.0, 8.0]}}
ALPHAS = {"batch.mixup.alpha": {"kind": "choice", "values": [0.05, 0.1, 0.2, 0.4]}}
ALPHA = {"kind": "loguniform", "low": 0.01, "high": 1.0}


def spec(name: str = "x", set_: dict[str, Any] | None = None, **fields: Any) -> SearchSpec:
    given = {"name": name, "job": DIGITS, "set": TAUGHT if set_ is None else set_, "budget": {"trials": 8}, **fields}
    return SearchSpec.model_validate(given)


def expected(search: SearchSpec, epoch_bytes: int = 1) -> Sharing:
    base = search.base()
    return sharing(search, base, stages(search, base, expected_trials(search, base)), epoch_bytes)


def run(name: str, set_: dict[str, Any], **fields: Any) -> Outcome:
    more = {"searcher": {"kind": "grid"}, "max_concurrent": 1, "budget": {"epochs_per_trial": 2}, "finish": False}
    outcome = launch(spec(name, {**TAUGHT, **set_}, space=TEMPERATURES, **more, **fields))
    assert [trial.status for trial in outcome.trials] == ["FINISHED", "FINISHED"]
    return outcome


def read(outcome: Outcome) -> list[str | None]:
    """The share of answers that each trial read, as its run in MLflow says."""
    return [child.data.tags.get("logits_read") for child in children(outcome.name)[2] if "ordinal" in child.data.tags]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_trials_read_what_an_earlier_one_computed_with_equal_results() -> None:
    kept, computed = run("kept", {}), run("computed", {}, logit_cache_mb=0)
    assert read(kept) == ["0%", "100%"]
    assert read(computed) == [None, None]
    for one, other in zip(kept.trials, computed.trials, strict=True):
        assert one.values["val/loss"] == other.values["val/loss"]
        assert one.values["test/loss"] == other.values["test/loss"]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_trials_of_several_workers_share_too() -> None:
    assert read(run("nested", {"resources.workers": 2})) == ["0%", "100%"]
    assert read(run("direct", {"accumulation": 2})) == ["100%", "100%"]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_every_teacher_is_trained_before_the_first_trial() -> None:
    """Later, one that needs more CPUs than a trial would wait for those of trials that wait for it."""
    teachers = [
        {**TEACHER, "set": {"name": f"teacher-{epochs}", "epochs": epochs, "model.width": 8}} for epochs in (2, 3)
    ]
    told: list[str] = []
    outcome = launch(
        spec(
            "schools",
            {"resources.workers": 1, "model.width": 8},
            space={"distillation": {"kind": "choice", "values": [None, *({"teacher": each} for each in teachers)]}},
            searcher={"kind": "grid"},
            max_concurrent=1,
            budget={"epochs_per_trial": 2},
            finish=False,
        ),
        tell=lambda text, lasting: told.append(text),
    )
    assert [trial.status for trial in outcome.trials] == ["FINISHED"] * 3
    begun = next(place for place, text in enumerate(told) if text.startswith("search schools: "))
    assert [text for text in told[:begun] if "training the teacher" in text] == [
        f"training the teacher first: teacher-{epochs}" for epochs in (2, 3)
    ]
    assert not any("training the teacher" in text for text in told[begun:])


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_search_whose_teacher_fails_has_failed() -> None:
    hopeless = {**TEACHER, "set": {**TEACHER["set"], "name": "hopeless", "optimizer.lr": 1e30}}
    fields = {"searcher": {"kind": "grid"}, "budget": {"epochs_per_trial": 2}}
    search = spec("untaught", {**TAUGHT, "distillation.teacher": hopeless}, space=TEMPERATURES, **fields)
    with pytest.raises(ValueError, match=r"the teacher's run hopeless-\S+ ended FAILED"):
        launch(search)
    _, parent, runs = children("untaught")
    assert parent.info.status == "FAILED" and [run.info.status for run in runs] == ["FAILED"]


def test_four_alphas_and_eight_trials() -> None:
    assert expected(spec()).share == pytest.approx(1 - 4 * (1 - (3 / 4) ** 8) / 8)
    assert "3.6 different inputs in 8 trials (batch.mixup.alpha)" in expected(spec()).text


def test_a_continuous_alpha_shares_nothing() -> None:
    told = expected(spec(space={"batch.mixup.alpha": ALPHA}))
    assert told == Sharing(0.0, 0, "0 %: batch.mixup.alpha is continuous; make it a choice")
    grid = spec(space={"batch.mixup.alpha": ALPHA, **TEMPERATURES}, searcher={"kind": "grid"}, budget={})
    assert expected(grid).share == pytest.approx(1 - 3 * (1 - (2 / 3) ** 6) / 6)


def test_what_comes_after_the_input_is_shared_by_all() -> None:
    space = {"distillation.temperature": {"kind": "loguniform", "low": 1, "high": 20}, "optimizer.lr": ALPHA}
    told = expected(spec(space=space))
    assert told.share == pytest.approx(7 / 8) and told.bytes == 15
    assert told.text.startswith("88 % ") and "all trials see the same images" in told.text


def test_without_a_teacher_there_is_nothing_to_say() -> None:
    assert expected(spec(set_={"resources.workers": 1})) == Sharing(0.0, 0, "")
    assert "logit_cache_mb is 0" in expected(spec(logit_cache_mb=0)).text


def test_fewer_trials_share_the_later_epochs() -> None:
    """9 trials to epoch 1, 3 to epoch 3, 1 to epoch 4, on one of two sequences each."""
    rate = {"kind": "uniform", "low": 0.01, "high": 0.1}  # which no image shows, and without which there are two points
    space = {"batch.mixup.alpha": {"kind": "choice", "values": [0.1, 0.2]}, "optimizer.lr": rate}
    scheduler = {"kind": "asha", "grace_epochs": 1, "reduction_factor": 3}
    told = expected(spec(space=space, scheduler=scheduler, budget={"trials": 9, "epochs_per_trial": 4}))
    computed = 2 * (1 - 0.5**9) * 1 + 2 * (1 - 0.5**3) * 2 + 1 * 1
    assert told.share == pytest.approx(1 - computed / (9 + 3 * 2 + 1))


def test_what_does_not_fit_is_not_shared() -> None:
    epochs = 15 * 4 * (1 - (3 / 4) ** 8)
    told = expected(spec(logit_cache_mb=1), 2**20)
    assert told.share == pytest.approx((1 - epochs / (8 * 15)) / epochs)
    assert told.bytes == 2**20 and f"they take {byte_size(epochs * 2**20)}: raise logit_cache_mb" in told.text


def test_branches_count_as_often_as_they_are_drawn() -> None:
    """Against as many draws as it takes."""
    space = {
        "distillation": {"kind": "choice", "values": [None, {"teacher": TEACHER}, {"teacher": {**TEACHER, "set": {}}}]},
        "distillation.weight": {"kind": "uniform", "low": 0, "high": 1, "when": {"distillation": "present"}},
        "batch.mixup.alpha": {**ALPHA, "when": {"distillation": "absent"}},
        "batch.cutout": {"kind": "choice", "values": [None, True]},
        "batch.cutout.size": {"kind": "integers", "low": 1, "high": 3, "when": {"batch.cutout": "present"}},
        "batch.random_erasing.probability": {**ALPHA, "when": {"batch.cutout": "absent"}},
    }
    search = spec(set_={"resources.workers": 1}, space=space)
    base, source, trials, rounds = search.base(), random.Random(0), 8, 400
    data, axes = base.model_dump(mode="json"), search.axes()
    seen = sequences(axes, base, Random())
    assert seen.taught == pytest.approx(2 / 3) and seen.alone == pytest.approx(1 / 3)
    assert set(seen.endless) == {"batch.random_erasing.probability"}
    different = 0
    for _ in range(rounds):
        jobs = [base.override(draw(axes, data, lambda _, axis: axis.at(source.random()))) for _ in range(trials)]
        different += len({f"{job.distillation.teacher} {inputs(job)}" for job in jobs if job.distillation is not None})
    assert seen.different(trials) == pytest.approx(different / rounds, rel=0.05)


def test_the_plan_says_so() -> None:
    lines, fits = plan(prepare(spec(space=ALPHAS), Cluster.at_hand()))
    assert fits and lines["logits"] == expected(spec(space=ALPHAS), 20 * (64 * 10 * 2 + 4)).text
    assert "MB of logits" in lines["disk"]
    assert "logits" not in plan(prepare(spec(set_={"resources.workers": 1}), Cluster.at_hand()))[0]

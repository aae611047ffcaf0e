"""What an ablation takes away and adds, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import JobSpec
from jobs.specfile import SpecError
from tests.jobs.digits_job import job
from tuning.run.plan import expected_trials
from tuning.run.sharing import sharing
from tuning.spec.arms import Arms
from tuning.spec.check import check
from tuning.spec.search import SearchSpec
from tuning.studies import ablation as ablations
from tuning.studies.ablation import PLAIN, RECIPE, ablation, arms, tricks
from tuning.studies.verdict import judge

DIGITS = Path("jobs/recipes/digits.yaml")
STEPS = {"kind": "step", "at_epochs": [0.75, 1.5, 2.25], "factor": 0.1}


def test_tricks_of_a_recipe_and_what_takes_them_away() -> None:
    full = job(
        model={"kind": "resnet", "depth": 8, "variant": "D", "zero_gamma": True, "drop_path": 0.1},
        loss={"kind": "bce", "soft_targets": True},
        ema={"decay": 0.9},
        distillation={"teacher": {"kind": "model", "path": "teacher"}},
        optimizer__no_decay=["bias", "norm"],
        evaluation__flip=True,
    )
    assert tricks(full) == {
        "LR warmup": {"schedule.warmup_epochs": 0.0},
        "zero gamma": {"model.zero_gamma": False},
        "no bias decay": {"optimizer.no_decay": []},
        "ResNet-D": {"model.variant": "B"},
        "cosine decay": {"schedule.decay": STEPS},
        "label smoothing": {"batch.label_smoothing": None},
        "mixup": {"batch.mixup": None},
        "distillation": {"distillation": None},
        "crop": {"augment.crop": None},
        "stochastic depth": {"model.drop_path": 0.0},
        "EMA": {"ema": None},
        "BCE loss": {"loss": {"kind": "cross_entropy"}},
        "flip at test time": {"evaluation.flip": False},
    }
    plain = full.override({name: value for changes in tricks(full).values() for name, value in changes.items()})
    assert tricks(plain) == {}, "a plain job has tricks"


def test_every_optional_slot_of_a_job_is_a_trick() -> None:
    optional = {name for name, field in JobSpec.model_fields.items() if field.default in (None, ())}
    assert optional == {"augment", "batch", "distillation", "ema", "swa", "sam", "early_stopping"}
    assert optional <= {field for _, field, _ in ablations.TRICKS}


def test_each_trick_is_taken_away_once_and_added_once() -> None:
    chosen = {name: tricks(job())[name] for name in ("cosine decay", "label smoothing", "mixup")}
    cosine, smoothing, mixup = ({"schedule.decay": STEPS}, {"batch.label_smoothing": None}, {"batch.mixup": None})
    jobs, questions, left_out = arms(job(), chosen, stack=True)
    assert left_out == {}
    assert jobs == {
        "recipe": {},
        "plain": cosine | smoothing | mixup,
        "without cosine decay": cosine,
        "without label smoothing": smoothing,
        "without mixup": mixup,
        "only cosine decay": smoothing | mixup,
        "only label smoothing": cosine | mixup,
        "only mixup": cosine | smoothing,
    }
    asked = [(question.label, question.arm, question.against) for question in questions]
    assert asked == [
        ("plain", PLAIN, RECIPE),
        *((f"without {name}", f"without {name}", RECIPE) for name in chosen),
        *((f"only {name}", f"only {name}", PLAIN) for name in chosen),
        ("up to label smoothing", "without mixup", PLAIN),
    ], "the paper's rows: the second of the stack is trained once, and the last is the recipe"


@pytest.mark.parametrize("count", [1, 2])
def test_few_tricks_ask_nothing_twice(count: int) -> None:
    chosen = dict(list(tricks(job()).items())[:count])
    jobs, questions, _ = arms(job(), chosen, stack=True)
    assert len(jobs) == 2**count, "with two tricks, without one is only the other"
    pairs = [frozenset((question.arm, question.against)) for question in questions]
    assert len(set(pairs)) == len(pairs) == (1 if count == 1 else 5)


def test_what_makes_no_job_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain value that does not fit, so that the plain recipe is none either."""
    monkeypatch.setattr(ablations, "TRICKS", (("LR warmup", "schedule.warmup_epochs", 3.0), *ablations.TRICKS[5:6]))
    made = ablation(DIGITS, ["epochs=3"], 3)
    assert made.arms is not None
    assert list(made.arms.jobs) == ["recipe", "without label smoothing"]
    assert "schedule.warmup_epochs 3 must be less than epochs 3" in made.arms.left_out["plain"]
    assert made.arms.left_out["only LR warmup"] == "there is no plain recipe to compare it to"
    notes = judge(made.arms, []).notes
    assert any(note.startswith("without LR warmup was not tried: schedule.warmup_epochs 3") for note in notes)


def test_the_cure_of_an_elastic_recipe_is_an_override() -> None:
    with pytest.raises(SpecError, match=r"none of them is elastic\n  -s resources\.workers=2"):
        check(ablation(DIGITS, ["resources.workers={min: 1, max: 2}"], 3))


def test_an_ablation_is_a_sound_search_with_the_recipe_s_overrides() -> None:
    made = ablation(DIGITS, ["epochs=3", "seed.init=5"], 3, ["label smoothing", "crop"])
    assert check(made) == () and made.arms is not None
    assert made.arms.seeds == (5, 6, 7) and expected_trials(made, made.base()) == 12
    assert (
        made.base().epochs == 3 and SearchSpec.model_validate_json(made.absolute().model_dump_json()).arms == made.arms
    )
    first = [made.trial(made.arms.params(ordinal)) for ordinal in range(5)]
    assert [(one.seed.init, one.seed.data) for one in first] == [(5, 5)] * 4 + [(6, 6)]
    assert first[1].augment == first[1].batch == () and first[4] == first[0].override({"seed.init": 6, "seed.data": 6})
    with pytest.raises(ValueError, match="no trick 'smoothing'; did you mean label smoothing"):
        ablation(DIGITS, [], 3, ["smoothing"])
    with pytest.raises(ValueError, match="no trick to take away"):
        ablation(DIGITS, ["batch=[]", "augment=[]", "schedule={decay: {kind: constant}}"], 3)


def test_trials_of_a_seed_share_their_teacher_s_answers() -> None:
    taught = job(distillation={"teacher": {"kind": "model", "path": "teacher"}})
    jobs, _, _ = arms(taught, {name: tricks(taught)[name] for name in ("cosine decay", "distillation", "mixup")}, False)
    made = SearchSpec(name="x", job=str(DIGITS), arms=Arms(jobs=jobs, seeds=(0, 1, 2)))
    found = sharing(made, taught, [], 1000)
    # taught: recipe, without cosine, without mixup, only distillation; two see mixed images, two do not
    assert found.share == pytest.approx(0.5) and "6 different inputs in 12 trials" in found.text


def test_a_trick_that_another_needs_stays() -> None:
    """A body with fresh weights is not frozen."""
    weights = {"kind": "model", "path": "somewhere"}
    tuned = job(model={"kind": "cnn", "width": 8, "pretrained": weights, "freeze_epochs": 1}, batch=[], augment=[])
    jobs, questions, left_out = arms(tuned, {name: tricks(tuned)[name] for name in list(tricks(tuned))[2:]}, False)
    assert list(left_out) == ["without pretrained weights", "only frozen body at first"]
    assert "set pretrained, or leave freeze_epochs out" in left_out["without pretrained weights"]
    assert list(jobs) == ["recipe", "plain", "without frozen body at first"]
    assert [question.label for question in questions] == [
        "plain",
        "without frozen body at first",
        "only pretrained weights",
    ]

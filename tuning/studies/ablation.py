"""A recipe without each of its tricks, and each of them alone: what pays, on one's own data.

A trick is what a recipe may have or not; taking it away leaves its plain value. Arithmetic, workers and the optimizer's
own numbers are none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs import specfile
from jobs.base import assign
from jobs.spec import JobSpec
from jobs.specfile.yaml import parse
from jobs.words import suggestion
from tuning.spec.arms import Arms, Question
from tuning.spec.search import SearchSpec
from tuning.spec.space import look_up

RECIPE, PLAIN = "recipe", "plain"
"""Names of the arms with all tricks and with none."""


def _steps(job: JobSpec) -> dict[str, Any]:
    """The paper's baseline: a tenth after each quarter (of 120 epochs at 30, 60 and 90)."""
    return {"kind": "step", "at_epochs": [job.epochs * share for share in (0.25, 0.5, 0.75)], "factor": 0.1}


Row = tuple[str, str, Any | Callable[[JobSpec], Any]]
TRICKS: tuple[Row, ...] = (
    ("LR warmup", "schedule.warmup_epochs", 0.0),
    ("zero gamma", "model.zero_gamma", False),
    ("no bias decay", "optimizer.no_decay", []),
    ("ResNet-{}", "model.variant", "B"),
    ("{} decay", "schedule.decay", _steps),
    ("{}", "batch", None),  # an entry of a list is a trick by its kind
    ("distillation", "distillation", None),
    ("{}", "augment", None),
    ("pretrained weights", "model.pretrained", None),
    ("frozen body at first", "model.freeze_epochs", 0),
    ("layer-wise rates", "optimizer.layer_decay", None),
    ("stochastic depth", "model.drop_path", 0.0),
    ("EMA", "ema", None),
    ("SWA", "swa", None),
    ("SAM", "sam", None),
    ("repeated augmentation", "repeats", 1),
    ("synchronised BatchNorm", "model.sync_batchnorm", False),
    ("{} loss", "loss", {"kind": "cross_entropy"}),
    ("gradient clipping", "optimizer.clip_norm", None),
    ("gradient clipping by value", "optimizer.clip_value", None),
    ("adaptive gradient clipping", "optimizer.clip_adaptive", None),
    ("class weights", "data.class_weights", None),
    ("balanced sampling", "data.balanced_sampling", False),
    ("larger test size", "data.test_size", None),
    ("flip at test time", "evaluation.flip", False),
    ("best epoch", "select", "last"),
    ("early stopping", "early_stopping", None),
)
"""What may be taken away: name, field, plain value; ``{}`` stands for what the recipe has there. A new trick of
``batch`` or ``augment`` is found by itself, any other gets a line here. The order is that of the paper's tables."""
_PLAIN_KINDS = ("step", "constant")
_SPELLED = {"bce": "BCE", "cutmix": "CutMix", "ricap": "RICAP", "auto_augment": "AutoAugment", "cutout": "Cutout"}
_SPELLED |= {
    "rand_augment": "RandAugment",
    "aug_mix": "AugMix",
    "three_augment": "3-Augment",
    "trivial_augment": "TrivialAugment",
    "pca_noise": "PCA noise",
}


def tricks(job: JobSpec) -> dict[str, dict[str, Any]]:
    """The tricks of a job: name -> changes that take it away, by dotted name."""
    data = job.model_dump(mode="json")
    found: dict[str, dict[str, Any]] = {}
    for name, field, plain in TRICKS:
        value = look_up(data, field)
        plain = plain(job) if callable(plain) else plain
        if isinstance(value, list) and plain is None:
            kinds = [entry["kind"] for entry in value]
            found |= {name.format(_spelled(kind)): {f"{field}.{kind}": None} for kind in kinds}
        elif value is not None and value != plain and not _is_plain(field, value):
            found[name.format(_spelled(value))] = {field: plain}
    return found


def ablation(
    path: Path, overrides: Sequence[str], seeds: int, only: Sequence[str] = (), stack: bool = False
) -> SearchSpec:
    """The search that takes a recipe apart.

    Args:
        path: YAML file of the job.
        overrides: of it, as ``name=value``.
        seeds: of each arm, from the recipe's own on.
        only: tricks to look at, in this order; the others stay as they are. None of them: all.
        stack: also put one upon the other, in that order.

    Raises:
        jobs.specfile.SpecError: the job is wrong.
        ValueError: it has no trick to take away, or not one of these.
    """
    job = specfile.read(path, JobSpec, overrides)
    known = tricks(job)
    for name in only:
        if name not in known:
            cure = suggestion(name, known, f"it has {', '.join(known) or 'none'}", 1)
            raise ValueError(f"{path} has no trick {name!r}; {cure}")
    chosen = {name: known[name] for name in only or known}
    if not chosen:
        raise ValueError(f"{path} has no trick to take away: an ablation needs one at least")
    jobs, questions, left_out = arms(job, chosen, stack)
    if not questions:
        raise ValueError(f"none of the tricks of {path} can be taken away: {'; '.join(left_out.values())}")
    first = job.seed.init
    given = {name.strip(): _value(text) for name, _, text in (each.partition("=") for each in overrides)}
    numbers = tuple(range(first, first + seeds))
    study = Arms(kind="ablation", jobs=jobs, seeds=numbers, questions=tuple(questions), left_out=left_out)
    return SearchSpec(name=f"{job.name[:70]}-ablation", job=str(path), set=given, arms=study)


def arms(
    job: JobSpec, chosen: dict[str, dict[str, Any]], stack: bool
) -> tuple[dict[str, dict[str, Any]], list[Question], dict[str, str]]:
    """Jobs by name, questions about them, and what is no job and why.

    Each is the recipe without some tricks; those that two questions ask for are trained once.
    """
    names = list(chosen)
    wanted: list[tuple[str, frozenset[str], str]] = [(PLAIN, frozenset(names), RECIPE)]
    wanted += [(f"without {name}", frozenset({name}), RECIPE) for name in names]
    wanted += [(f"only {name}", frozenset(names) - {name}, PLAIN) for name in names]
    if stack:
        wanted += [(f"up to {names[place]}", frozenset(names[place + 1 :]), PLAIN) for place in range(1, len(names))]
    jobs: dict[str, dict[str, Any]] = {RECIPE: {}}
    by_removed: dict[frozenset[str], str] = {frozenset(): RECIPE}
    questions: list[Question] = []
    left_out: dict[str, str] = {}
    asked: set[frozenset[str]] = set()
    for label, removed, against in wanted:
        if removed not in by_removed:
            changes = {field: value for name in names if name in removed for field, value in chosen[name].items()}
            if flaw := _flaw(job, changes):
                left_out[label] = flaw
                continue
            by_removed[removed] = label
            jobs[label] = changes
        arm = by_removed[removed]
        if against not in jobs:
            left_out[label] = f"there is no {against} recipe to compare it to"
        elif (pair := frozenset((arm, against))) not in asked:
            asked.add(pair)
            questions.append(Question(arm=arm, against=against, label=label))
    return jobs, questions, left_out


def _flaw(job: JobSpec, changes: dict[str, Any]) -> str:
    """Why these changes make no job."""
    try:
        JobSpec.model_validate(assign(job.model_dump(mode="json"), changes, JobSpec))
    except ValidationError as error:
        return "; ".join(flaw["msg"].removeprefix("Value error, ") for flaw in error.errors(include_url=False))
    return ""


def _is_plain(field: str, value: Any) -> bool:
    if field == "schedule.decay":
        return value["kind"] in _PLAIN_KINDS
    return field == "model.variant" and value == "A"


def _spelled(value: Any) -> str:
    kind = value.get("kind", "") if isinstance(value, dict) else str(value)
    return _SPELLED.get(kind, kind.replace("_", " "))


def _value(text: str) -> Any:
    tree, _ = parse(text)
    return tree.value if tree else None

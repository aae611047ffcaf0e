"""What plan remarks on."""

from __future__ import annotations

import re

import pytest

from jobs.remarks import remarks
from jobs.spec import JobSpec
from jobs.specfile.schema import Shape
from tests.jobs.digits_job import job

AROUND = {
    "schedule.decay": {"kind": "step", "at_epochs": [1]},
    "early_stopping": {"patience_epochs": 1},
    "swa": {"epochs": 1},
}


def said(spec: JobSpec) -> list[str]:
    return remarks(spec, spec.steps(1000), 8)


def test_an_ordinary_job_is_not_remarked_on() -> None:
    assert said(job()) == []
    assert said(job(epochs=1, schedule__warmup_epochs=0, evaluation__every_epochs=1, ema={})) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"schedule.decay": {"kind": "step", "at_epochs": [2, 3, 90]}},
            "schedule.decay.at_epochs 3, 90 of 3 epochs: the",
        ),
        (
            {"early_stopping": {"patience_epochs": 3}},
            "early_stopping.patience_epochs 3 of 3 epochs: the run never stops",
        ),
        ({"batch.mixup.off_epochs": 3}, "batch.mixup.off_epochs 3 of 3 epochs: the trick never acts"),
        ({"ema.copy_epochs": 5}, "ema.copy_epochs 5 of 3 epochs: the average is a copy of the weights to the end"),
        ({"ema.every": 100}, "ema.every 100 of 45 updates: the average never takes the weights in"),
        ({"evaluation.every_epochs": 4}, "evaluation.every_epochs 4 of 3 epochs: evaluation happens at the end only"),
        ({"checkpoint.every_steps": 46}, "checkpoint.every_steps 46 of 45 updates: checkpoint happens at the end only"),
        ({"optimizer.lr": 1e6, "optimizer.weight_decay": 0}, "optimizer: a learning rate of 1e+06 diverges"),
        ({"optimizer.lr": 1e-12}, "optimizer: a learning rate of 1e-12 hardly moves the weights"),
        ({"optimizer.weight_decay": 100.0}, "optimizer: learning rate x weight decay is 5; from 1 on"),
        ({"augment.crop.padding": 8}, "augment.crop.padding 8 of images of 8 pixels: some crops are black"),
        ({"budget.hours": 0.01}, "budget.hours 0.01 is 36 s: the run ends at once"),
    ],
)
def test_each_in_one_sentence(change: dict[str, object], words: str) -> None:
    [remark] = said(job().override(change))
    assert remark.startswith(words)


def test_every_field_that_counts_epochs_or_updates_is_refused_or_remarked_on() -> None:
    counts = r"(.*_)?(epochs|steps)|every(_.*)?"
    names = {name.dotted for name in Shape.of(JobSpec).names if re.fullmatch(counts, name.parts[-1])}
    names = {name for name in names if not name.startswith("distillation.teacher.")} - {"epochs"}
    assert len(names) > 10
    for name in names:
        changes: dict[str, object] = {key: value for key, value in AROUND.items() if name.startswith(key)}
        changes[name] = [1000] if name.endswith("at_epochs") else 1000
        try:
            spec = job().override(changes)
        except ValueError:
            continue
        assert any(remark.startswith(f"{name} 1000 of ") for remark in said(spec)), name


def test_a_network_s_own_arguments_are_not_numbers_of_epochs() -> None:
    assert said(job(model={"kind": "timm", "name": "resnet10t", "kwargs": {"every": "x", "epochs": None}})) == []

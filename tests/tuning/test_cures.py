"""Every cure that a message names is tried: mistakes of ``-s``, and the command that the message gives instead."""

from __future__ import annotations

import re

import pytest

from jobs import specfile
from jobs.spec import JobSpec
from tuning.spec.check import check
from tuning.spec.search import SearchSpec

FILES = {"job": "jobs/recipes/digits.yaml", "search": "tuning/searches/digits.yaml"}
TABLE = [
    # kind of file, mistake, what the message must name, as it is then typed
    ("search", "job.epochs=12", "set.epochs=12"),
    ("search", "epochs=12", "set.epochs=12"),
    ("search", "set.epoch=12", "set.epochs=12"),
    ("search", "set.job.epochs=12", "set.epochs=12"),
    ("search", "workers=1", "set.resources.workers=1"),
    ("search", "job.model.width=16", "set.model.width=16"),
    ("search", "set.weight_decay=0.1", "set.optimizer.weight_decay=0.1"),
    ("search", "set.model=resnet", "set.model={kind: resnet, depth: 8}"),
    ("search", "set.augment.crop=2", "set.augment.crop.padding=2"),
    ("search", "set.augment.0.padding=2", "set.augment.crop.padding=2"),
    ("search", "set.optimizer.lr=0.1", "space.optimizer.lr={kind: fixed, value: 0.1}"),
    ("search", "trials=3", "budget.trials=3"),
    ("search", "budget.trial=3", "budget.trials=3"),
    ("search", "budget.trials", "budget.trials=20"),
    ("search", "searcher=random", "searcher={kind: random}"),
    ("search", "searcher.kind=rndom", "searcher.kind=random"),
    ("search", "scheduler=median", "scheduler={kind: median}"),
    ("search", "metric=top1", "metric=val/top1"),
    ("search", "space.optimizer.lr=0.1", "space.optimizer.lr={kind: fixed, value: 0.1}"),
    ("search", "space.optimizer.lr=[0.1, 0.2]", "space.optimizer.lr={kind: choice, values: [0.1, 0.2]}"),
    ("search", "space.lr.low=0.02", "space.optimizer.lr.low=0.02"),
    ("search", "space.optimizer.lrr.low=0.02", "space.optimizer.lr.low=0.02"),
    ("search", "space.optimizer.momentum.low=0.5", "space.optimizer.momentum={kind: uniform, low: 0.5, high: 0.9}"),
    ("search", "space.epochs={kind: choice, values: [8, 12]}", "budget.epochs_per_trial=null"),
    ("job", "job.epochs=12", "epochs=12"),
    ("job", "set.epochs=12", "epochs=12"),
    ("job", "Epochs=12", "epochs=12"),
    ("job", "epochs", "optimizer.lr=0.2"),
    ("job", "lr=0.2", "optimizer.lr=0.2"),
    ("job", "optimizer.learning_rate=0.2", "optimizer.lr=0.2"),
    ("job", "workers=1", "resources.workers=1"),
    ("job", "label_smoothing=true", "batch.label_smoothing=true"),
    ("job", "batch.label_smoothing=0.2", "batch.label_smoothing.epsilon=0.2"),
    ("job", "batch.mixup=0.2", "batch.mixup.alpha=0.2"),
    ("job", "batch.0.epsilon=0.2", "batch.label_smoothing.epsilon=0.2"),
    ("job", "batch[0].epsilon=0.2", "batch.label_smoothing.epsilon=0.2"),
    ("job", "batch.mixupp.alpha=0.2", "batch.mixup.alpha=0.2"),
    ("job", "augment=crop", "augment=[{kind: crop}]"),
    ("job", "optimizer=adamw", "optimizer={kind: adamw, lr: 0.001}"),
    ("job", "optimizer.kind=sdg", "optimizer.kind=sgd"),
    ("job", "model=resnet", "model={kind: resnet, depth: 8}"),
    ("job", "data=folder", "data={kind: image_folder, root: .}"),
    ("job", "schedule.decay=cosine", "schedule.decay={kind: cosine}"),
    ("job", "schedule.decay.kind=cos", "schedule.decay.kind=cosine"),
    ("job", "loss=cross_entropy", "loss={kind: cross_entropy}"),
    ("job", "distillation.teacher=run", "distillation.teacher={kind: run, run: r}"),
]


def read(kind: str, *overrides: str) -> None:
    """Read the file, as the command line does."""
    if kind == "job":
        specfile.read(FILES[kind], JobSpec, overrides)
        return
    spec = specfile.read(FILES[kind], SearchSpec, overrides)
    check(spec)


def named(message: str, mistake: str) -> list[str]:
    """The overrides that the cures of a message name, with ``...`` for what they leave open."""
    found = [quoted or bare for quoted, bare in re.findall(r"-s (?:'([^']*)'|([^'\s]\S*))", message.partition("\n")[2])]
    name = mistake.partition("=")[0]
    prefix = "set." if name.startswith("set.") else ""
    for guess in re.findall(r"did you mean ([^?]*)\?", message):
        for word in re.split(r", | or ", guess):
            found += [f"{prefix}{word}=...", f"{word}=...", f"{name}={word}"]
    return found


@pytest.mark.parametrize(("kind", "mistake", "repaired"), TABLE)
def test_what_a_message_names_works(kind: str, mistake: str, repaired: str) -> None:
    with pytest.raises(specfile.SpecError) as caught:
        read(kind, mistake)
    message = re.sub(r"\n {4,}", " ", str(caught.value))  # long cures are wrapped
    patterns = [re.escape(cure).replace(r"\.\.\.", ".+") for cure in named(message, mistake)]
    assert any(re.fullmatch(pattern, repaired) for pattern in patterns), message
    kept = [mistake] if repaired == "budget.epochs_per_trial=null" else []  # a cure that goes with what was wanted
    read(kind, *kept, repaired)

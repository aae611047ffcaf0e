"""Every field of a job has an effect, with two workers too, where it is that of one worker with as many parts."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest

from jobs.models import finetune
from jobs.outcome import keep_model
from jobs.place import Place
from jobs.report import Keep
from jobs.spec import JobSpec
from jobs.specfile.schema import Shape
from jobs.train import train
from tests import world

BASE: dict[str, Any] = {
    "name": "effects",
    "data": {"kind": "synthetic", "samples": 160, "size": 8, "classes": 4, "noise": 3.0},
    "model": {"kind": "resnet", "depth": 8, "width": 8, "variant": "D"},
    "optimizer": {"kind": "sgd", "lr": 0.05, "weight_decay": 1e-3},
    "epochs": 2,
    "batch_size": 16,
    "precision": "fp64",
}
TAUGHT = {"teacher": {"kind": "model", "path": "WEIGHTS"}}
STARTED = {"model.pretrained": {"kind": "model", "path": "WEIGHTS"}}
EFFECTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "data.class_weights": ({"class 1": 5.0}, {}),
    "data.balanced_sampling": (True, {}),
    "data.mean": ([0.1] * 3, {}),
    "data.test_size": (12, {}),
    "model.zero_gamma": (True, {}),
    "model.pretrained": (STARTED["model.pretrained"], {}),
    "model.freeze_epochs": (1, STARTED),
    "model.drop_path": (0.5, {}),
    "augment": ([{"kind": "crop"}], {}),
    "repeats": (4, {}),
    "batch": ([{"kind": "mixup"}], {}),
    "batch.cutmix.off_epochs": (1, {"batch": [{"kind": "cutmix"}]}),
    "loss": ({"kind": "bce"}, {}),
    "distillation": (TAUGHT, {}),
    "distillation.temperature": (1.0, {"distillation": TAUGHT}),
    "distillation.weight": (0.1, {"distillation": TAUGHT}),
    "distillation.hard_weight": (0.1, {"distillation": TAUGHT}),
    "optimizer.weight_decay": (0.1, {}),
    "optimizer.no_decay": (["norm", "bias"], {}),
    "optimizer.layer_decay": (0.5, {}),
    "optimizer.clip_norm": (1e-2, {}),
    "optimizer.clip_value": (1e-4, {}),
    "optimizer.clip_adaptive": (1e-3, {}),
    "schedule.warmup_epochs": (1.0, {}),
    "schedule.decay": ({"kind": "constant"}, {}),
    "epochs": (3, {}),
    "batch_size": (32, {}),
    "precision": ("fp32", {}),
    "ema": ({}, {}),
    "ema.decay": (0.5, {"ema": {}}),
    "ema.every": (3, {"ema": {}}),
    "ema.warmup": (False, {"ema": {}}),
    "ema.copy_epochs": (1, {"ema": {}}),
    "swa": ({"epochs": 2}, {}),
    "swa.epochs": (1, {"swa": {"epochs": 2}}),
    "swa.lr": (0.2, {"swa": {"epochs": 1}}),
    "sam": ({}, {}),
    "sam.rho": (0.5, {"sam": {}}),
    "seed.init": (1, {}),
    "seed.data": (1, {}),
    "evaluation.every_epochs": (2, {}),
    "evaluation.flip": (True, {}),
    "select": ("best", {"optimizer.lr": 0.1, "schedule.decay": {"kind": "constant"}, "epochs": 3}),
    "early_stopping": ({"patience_epochs": 1}, {"optimizer.lr": 1e-9, "epochs": 4}),
    "budget": ({"hours": 1e-9}, {}),
}
"""Field -> a value, and what else makes it matter."""
ELSEWHERE = {
    "name": "in MLflow, tests/orchestrator",
    "accumulation": "here and in tests/jobs/test_train.py",
    "channels_last": "tests/jobs/test_arithmetic.py",
    "compile": "tests/jobs/test_graphs.py",
    "deterministic": "on a GPU alone",
    "distillation.teacher": "tests/contracts/test_teachers.py",
    "early_stopping.min_delta": "tests/jobs/test_train.py",
    "early_stopping.patience_epochs": "with early_stopping",
    "evaluation.batch_size": "changes no result",
    "checkpoint": "tests/orchestrator",
    "resources": "tests/orchestrator",
    "tracking": "tests/orchestrator",
}


def job(weights: str, changes: dict[str, Any]) -> JobSpec:
    """The job with changes by dotted name, and a network's folder where they say ``WEIGHTS``."""
    text = JobSpec.model_validate(BASE).override(changes).model_dump_json()
    return JobSpec.model_validate_json(text.replace("WEIGHTS", weights))


def found(texts: list[str]) -> list[dict[str, Any]]:
    """What each job comes to: sums over its tensors, records, and how it ended."""
    results = []
    for text in texts:
        spec, report, place = finetune.resolve(JobSpec.model_validate_json(text)), Keep(), Place.current(use_gpu=False)
        assets: dict[str, Any] = {"data": spec.data.open()}
        if spec.model.pretrained is not None:
            assets["pretrained"] = spec.model.pretrained.model_dump()["path"]
        if spec.distillation is not None:
            assets["teacher"] = spec.distillation.teacher.folder(assets["data"])
        outcome = train(spec, place, report, assets)
        assert outcome.network is not None and outcome.test is not None
        sums = [value.double().square().sum().item() for value in outcome.network.state_dict().values()]
        names = ("train/", "val/", "lr")
        records = {f"{each.name} {each.step}": each.value for each in report.records if each.name.startswith(names)}
        results.append({"sums": sums, "test": outcome.test.loss, "ended": outcome.ended_by, "records": records})
    return results


def test_every_field_of_the_job_and_of_what_goes_with_any_network_is_here_or_elsewhere() -> None:
    names = {*EFFECTS, *ELSEWHERE}
    assert {name.split(".")[0] for name in names} == set(JobSpec.model_fields)
    slots = ("ema", "swa", "sam", "evaluation", "early_stopping", "distillation", "seed")
    inside = {name.dotted for name in Shape.of(JobSpec).names if len(name.parts) == 2 and name.parts[0] in slots}
    assert inside <= names


@pytest.mark.slow
def test_each_has_an_effect_and_the_same_with_two_workers_as_with_two_parts() -> None:
    with tempfile.TemporaryDirectory() as weights:
        kept = JobSpec.model_validate(BASE).override({"data.seed": 5, "model.width": 8})
        data = kept.data.open()
        keep_model(weights, train(kept, Place(), Keep(), {"data": data}), data)
        pairs = {name: (context, {**context, name: value}) for name, (value, context) in EFFECTS.items()}

        def trained(workers: int, **parts: int) -> dict[str, list[dict[str, Any]]]:
            """Of each field, without and with its value."""
            more = {name.replace("__", "."): count for name, count in parts.items()}
            texts = {
                name: [job(weights, {**changes, **more}).model_dump_json() for changes in pair]
                for name, pair in pairs.items()
            }
            once = list(dict.fromkeys(text for pair in texts.values() for text in pair))
            known = dict(zip(once, world.run(workers, found, once)[0], strict=True))
            return {name: [known[text] for text in pair] for name, pair in texts.items()}

        workers, parts = trained(2, resources__workers=2), trained(1, accumulation=2)
    for name in EFFECTS:
        plain, changed = workers[name]
        assert plain != changed, name
        near = 1e-8 if name != "precision" else 1e-2
        for mine, other in zip(workers[name], parts[name], strict=True):
            assert mine["ended"] == other["ended"], name
            assert mine["records"] == pytest.approx(other["records"], abs=near), name
            assert mine["sums"] == pytest.approx(other["sums"], rel=near), name

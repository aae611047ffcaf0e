"""Distillation: the term by hand, what the teacher sees, and what it may not be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from jobs import models
from jobs.batch import At
from jobs.distillation import Distillation, StoredTeacher, distillation_loss
from jobs.outcome import keep_model
from jobs.place import Place
from jobs.randomness import generator, seed_global
from jobs.report import Keep
from jobs.train import train
from tests.jobs.digits_job import job

AT = At(epoch=0, step=0, part=0, epochs=1, steps=1)


@pytest.fixture(scope="module")
def digits() -> Any:
    return job().data.open()


@pytest.fixture(scope="module")
def teacher(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    outcome = train(job(epochs=2, model__width=16), Place(), Keep(), {"data": digits})
    keep_model(str(folder), outcome, digits)
    return folder


def logits(seed: int, temperature: float = 1.0) -> torch.Tensor:
    return torch.randn(5, 10, generator=generator(seed), dtype=torch.float64) * 3 * temperature


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_the_term_by_hand(temperature: float) -> None:
    z, r = logits(1), logits(2)
    p, q = (r / temperature).softmax(1), (z / temperature).softmax(1)
    expected = temperature**2 * (p * (p / q).log()).sum() / 5
    torch.testing.assert_close(distillation_loss(z, r, temperature), expected)
    assert distillation_loss(r, r, temperature).abs() < 1e-12


def test_gradient_is_that_of_the_cross_entropy_form() -> None:
    """The form of arXiv 1812.01187: T^2 CE(softmax(r / T), softmax(z / T))."""
    temperature, r = 4.0, logits(2)
    z, other = logits(1).requires_grad_(), logits(1).requires_grad_()
    distillation_loss(z, r, temperature).backward()
    targets = (r / temperature).softmax(1)
    (nn.functional.cross_entropy(other / temperature, targets) * temperature**2).backward()
    assert z.grad is not None and other.grad is not None
    torch.testing.assert_close(z.grad, other.grad)


def test_half_precision_is_computed_in_fp32() -> None:
    z, r = logits(1).to(torch.bfloat16), logits(2).to(torch.float16)
    value = distillation_loss(z, r, 4.0)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, distillation_loss(z.float(), r.float(), 4.0))


def test_teacher_sees_the_very_tensor_by_its_own_normalisation(teacher: Path, digits: Any) -> None:
    loaded = models.load(teacher)
    student = replace(digits, mean=(0.2,), std=(0.7,))
    spec = Distillation(teacher=StoredTeacher(path=str(teacher)), temperature=2.0)
    distiller = spec.build(loaded, student, lambda network: network)
    pixels = torch.from_numpy(digits.test.images[:9].copy()).permute(0, 3, 1, 2).float() / 255
    x = (pixels - 0.2) / 0.7
    seen = (pixels - loaded.mean[0]) / loaded.std[0]
    with torch.no_grad():
        expected = loaded.network(seen)
    got = distiller.logits(x, AT)
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), expected, atol=2e-2, rtol=2e-3)
    torch.testing.assert_close(distiller(expected, x, AT), distillation_loss(expected, got, 2.0), atol=1e-6, rtol=1e-5)


def test_teacher_is_frozen_and_in_eval_mode(teacher: Path, digits: Any) -> None:
    spec = job(distillation={"teacher": {"kind": "model", "path": str(teacher)}}, epochs=2)
    before = {name: value.clone() for name, value in models.load(teacher).network.state_dict().items()}
    report = Keep()
    outcome = train(spec, Place(), report, {"data": digits, "teacher": str(teacher)})
    after = models.load(teacher).network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert outcome.network is not None
    shapes = {tuple(p.shape) for p in outcome.network.parameters()}
    assert (16, 1, 3, 3) not in shapes, "the teacher's weights are among the student's"
    assert not any("teacher" in name for name in report.checkpoints[-1].tree)


def test_terms_are_logged_apart_and_add_up(teacher: Path, digits: Any) -> None:
    changes = {"temperature": 3.0, "weight": 0.7, "hard_weight": 0.3}
    spec = job(distillation={"teacher": {"kind": "model", "path": str(teacher)}, **changes}, epochs=2)
    report = Keep()
    train(spec, Place(), report, {"data": digits, "teacher": str(teacher)})
    for epoch in (1, 2):
        total, hard, soft = (
            report.series(f"train/{name}")[epoch] for name in ("loss", "loss_hard", "loss_distillation")
        )
        assert hard > 0 and soft > 0
        assert total == pytest.approx(0.3 * hard + 0.7 * soft, rel=1e-5)


def test_a_student_that_listens_to_the_teacher_alone_comes_close_to_it(teacher: Path, digits: Any) -> None:
    spec = job(
        distillation={"teacher": {"kind": "model", "path": str(teacher)}, "hard_weight": 0.0, "temperature": 1.0},
        model__width=16,
        epochs=6,
        batch=[],
    )
    report = Keep()
    train(spec, Place(), report, {"data": digits, "teacher": str(teacher)})
    series = report.series("train/loss_distillation")
    assert series[6] < series[1] / 4


def test_another_class_order_or_channel_number_is_refused(teacher: Path, digits: Any) -> None:
    loaded = models.load(teacher)
    spec = Distillation(teacher=StoredTeacher(path=str(teacher)))
    with pytest.raises(ValueError, match=r"class 0 is '9' in the data, but '0' to the teacher"):
        spec.check(loaded, replace(digits, classes=tuple(reversed(digits.classes))))
    with pytest.raises(ValueError, match="has 10 classes, the data has 9"):
        spec.check(loaded, replace(digits, classes=digits.classes[:9]))
    with pytest.raises(ValueError, match="1 channels, the student of 3"):
        spec.check(loaded, replace(digits, channels=3))
    trusting = Distillation(teacher=StoredTeacher(path=str(teacher), check_classes=False))
    trusting.check(loaded, replace(digits, classes=tuple(reversed(digits.classes))))


@pytest.mark.parametrize("teacher_spec", [{"kind": "run", "run": "x"}, {"kind": "job", "job": "x.yaml"}])
def test_what_only_the_orchestrator_knows_says_so(teacher_spec: dict[str, str], digits: Any) -> None:
    spec = job(distillation={"teacher": teacher_spec})
    assert spec.distillation is not None
    with pytest.raises(ValueError, match="kind: model, path"):
        spec.distillation.teacher.folder(digits)


@pytest.mark.parametrize("field", ["temperature", "weight"])
def test_bounds(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        job(distillation={"teacher": {"kind": "model", "path": "x"}, field: -1.0})


@pytest.mark.parametrize("kind", ["torchvision", "timm"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_library_teacher_from_a_file(tmp_path: Path, digits: Any, kind: str, suffix: str) -> None:
    from safetensors.torch import save_file

    seed_global("file")
    model = models.Torchvision(name="resnet18") if kind == "torchvision" else models.Timm(name="resnet18")
    network = model.build(10, 3)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": network.state_dict()}, file)
    else:
        save_file(network.state_dict(), file)
    spec = job(distillation={"teacher": {"kind": kind, "name": "resnet18", "file": str(file)}})
    assert spec.distillation is not None
    folder = spec.distillation.teacher.folder(digits)
    loaded = models.load(folder)
    assert folder == spec.distillation.teacher.folder(digits)
    assert loaded.mean == pytest.approx((0.485, 0.456, 0.406))
    x = torch.randn(2, 3, 32, 32, generator=generator(0))
    torch.testing.assert_close(loaded.network(x), network.eval()(x))
    wrong = job(distillation={"teacher": {"kind": kind, "name": "resnet34", "file": str(file)}})
    assert wrong.distillation is not None
    with pytest.raises(ValueError, match="not of that network with 10 classes"):
        wrong.distillation.teacher.folder(digits)


def test_weights_that_are_not_weights_are_refused_safely(tmp_path: Path, digits: Any) -> None:
    import pickle

    file = tmp_path / "evil.pth"
    file.write_bytes(pickle.dumps(print))
    spec = job(distillation={"teacher": {"kind": "timm", "name": "resnet18", "file": str(file)}})
    assert spec.distillation is not None
    with pytest.raises(ValueError, match="no weights that can be read safely"):
        spec.distillation.teacher.folder(digits)

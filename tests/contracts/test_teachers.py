"""Every kind of teacher ends as a frozen network in eval mode that answers with one fp16 row of logits an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

from jobs.batch import At
from jobs.data import Synthetic
from jobs.distillation import Distillation, JobTeacher, RunTeacher, StoredTeacher
from jobs.distillation.teacher import Teacher, TeacherSpec, TimmTeacher, TorchvisionTeacher
from jobs.models import CNN, Timm, Torchvision, load, save
from jobs.randomness import generator, seed_global
from jobs.spec import JobSpec
from orchestrator.execution.teacher import resolve, told
from orchestrator.home import run_folder
from orchestrator.tracking.journal import FILE, Journal
from tests.jobs.digits_job import job

CLASSES = ("class 0", "class 1", "class 2", "class 3")
AT = At(epoch=0, step=0, part=0, epochs=1, steps=1)
DATA = Synthetic(classes=4, size=32, samples=60).open()


def trained(folder: Path) -> Path:
    """The model folder of a network for 32x32 colour images."""
    model = CNN(width=4)
    seed_global("teacher")
    about = {"size": 32, "channels": 3, "mean": (0.4,) * 3, "std": (0.3,) * 3}
    save(folder, model.build(4, 3), model.model_dump(mode="json"), CLASSES, about)
    return folder


def run() -> str:
    """A finished run, by its name."""
    trained(run_folder("taught") / "model")
    journal = Journal(run_folder("taught") / FILE)
    journal.append([{"type": "begin", "tags": {}}])
    journal.close()
    return "taught"


def of_job(folder: Path) -> JobTeacher:
    (folder / "job.yaml").write_text(
        "name: t\ndata: {kind: digits}\nmodel: {kind: cnn}\noptimizer: {kind: sgd, lr: 0.1}\nepochs: 1\nbatch_size: 8\n"
    )
    return JobTeacher(job=str(folder / "job.yaml"))


def of_torchvision(folder: Path) -> TorchvisionTeacher:
    torch.save(Torchvision(name="mobilenet_v3_small").build(4, 3).state_dict(), folder / "w.pth")
    return TorchvisionTeacher(name="mobilenet_v3_small", file=str(folder / "w.pth"))


def of_timm(folder: Path) -> TimmTeacher:
    save_file(Timm(name="resnet10t").build(4, 3).state_dict(), folder / "w.safetensors")
    return TimmTeacher(name="resnet10t", file=str(folder / "w.safetensors"))


EXAMPLES: dict[type[Teacher], Callable[[Path], Teacher]] = {
    StoredTeacher: lambda folder: StoredTeacher(path=str(trained(folder / "model"))),
    RunTeacher: lambda _: RunTeacher(run=run()),
    JobTeacher: of_job,
    TorchvisionTeacher: of_torchvision,
    TimmTeacher: of_timm,
}
MISSING: dict[type[Teacher], tuple[Teacher, str]] = {
    StoredTeacher: (StoredTeacher(path="/no/model"), r"there is no model in /no/model; give a run's model folder"),
    RunTeacher: (RunTeacher(run="nobody"), r"there is no run 'nobody'"),
    JobTeacher: (JobTeacher(job="nothing.yaml"), r"nothing\.yaml: no such file"),
    TorchvisionTeacher: (TorchvisionTeacher(name="resnet18", weights="V9"), r"it has IMAGENET1K_V1, DEFAULT"),
    TimmTeacher: (TimmTeacher(name="nosuchnet"), r"timm nosuchnet cannot be fetched: Unknown model"),
}
each = pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))


def student(teacher: Teacher) -> JobSpec:
    return job(distillation={"teacher": teacher.model_dump(mode="json")})


def resolved(teacher: Teacher) -> Distillation:
    """The distillation with the teacher's folder; a job is not trained: its run is made."""
    found = resolve(student(teacher), DATA, lambda _: run()).distillation
    assert found is not None
    return found


def test_every_kind_is_in_both_tables() -> None:
    assert set(EXAMPLES) == set(MISSING) == set(get_args(get_args(TeacherSpec)[0]))


@each
def test_json_round_trip(kind: type[Teacher], tmp_path: Path) -> None:
    teacher = EXAMPLES[kind](tmp_path)
    assert TypeAdapter(TeacherSpec).validate_json(teacher.model_dump_json()) == teacher


@each
def test_it_is_frozen_and_answers_alike(kind: type[Teacher], tmp_path: Path) -> None:
    spec = resolved(EXAMPLES[kind](tmp_path))
    assert isinstance(spec.teacher, StoredTeacher)
    distiller = spec.build(load(spec.teacher.path), DATA, lambda network: network)
    assert not distiller.network.training and not any(module.training for module in distiller.network.modules())
    assert not any(parameter.requires_grad for parameter in distiller.network.parameters())
    before = {name: tensor.clone() for name, tensor in distiller.network.state_dict().items()}
    x = torch.randn(5, 3, 32, 32, generator=generator("x"))
    logits = distiller.logits(x, AT)
    assert logits.shape == (5, 4) and logits.dtype == torch.float16 and not logits.requires_grad
    assert logits.isfinite().all() and torch.equal(distiller.logits(x, AT), logits)
    term = distiller(torch.zeros(5, 4, requires_grad=True), x, AT)
    assert term.shape == () and term.requires_grad and term >= 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in distiller.network.state_dict().items())


@each
def test_the_order_of_classes_is_checked(kind: type[Teacher], tmp_path: Path) -> None:
    spec = resolved(EXAMPLES[kind](tmp_path))
    assert isinstance(spec.teacher, StoredTeacher)
    turned = replace(load(spec.teacher.path), classes=CLASSES[::-1])
    with pytest.raises(ValueError, match=r"class 0 is 'class 0' in the data, but 'class 3' to the teacher"):
        spec.check(turned, DATA)


def test_a_teacher_is_read_once_by_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr("jobs.models.load", lambda folder: (read.append(folder), load(folder))[1])
    teacher = EXAMPLES[StoredTeacher](tmp_path)
    assert isinstance(teacher, StoredTeacher)
    spec = student(teacher)
    assert spec.distillation is not None
    told(spec.distillation, DATA)
    resolved(teacher)
    assert read == [teacher.path]


@each
def test_a_missing_one_is_named_with_the_cure(kind: type[Teacher], tmp_path: Path) -> None:
    teacher, words = MISSING[kind]
    with pytest.raises(ValueError, match=words):
        resolved(teacher)
    if kind in (StoredTeacher, RunTeacher, JobTeacher):  # a library's weights are looked for by the run alone
        spec = student(teacher).distillation
        assert spec is not None
        with pytest.raises(ValueError, match=words):
            told(spec, DATA)

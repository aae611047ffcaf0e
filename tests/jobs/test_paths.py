"""The type of a field says that it is a path; one walk finds all of them, in a spec and in its JSON data alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import JsonValue

from jobs.base import Spec
from jobs.paths import Found, NamesOf, absolute, changed, paths
from jobs.spec import JobSpec
from tests.jobs.digits_job import job

TABLE = {"kind": "table", "train": "a.csv", "test": "s3://bucket/b.csv", "root": "images"}
DATA: list[tuple[dict[str, Any], dict[str, list[str]]]] = [
    ({"data": TABLE}, {"data.train": ["a.csv"], "data.test": ["s3://bucket/b.csv"], "data.root": ["images"]}),
    (
        {"data": {"kind": "parquet", "train": ["a.parquet", "b/*.parquet"]}},
        {"data.train": ["a.parquet", "b/*.parquet"]},
    ),
    ({"data": {"kind": "torchvision", "name": "MNIST", "root": "sets"}}, {"data.root": ["sets"]}),
    ({"checkpoint": {"storage": "shared"}}, {"checkpoint.storage": ["shared"]}),
    ({"model": {"kind": "cnn", "pretrained": {"kind": "file", "path": "w.pth"}}}, {"model.pretrained.path": ["w.pth"]}),
    (
        {"distillation": {"teacher": {"kind": "job", "job": "t.yaml", "set": {"name": "a/b"}}}},
        {"distillation.teacher.job": ["t.yaml"]},
    ),
    ({"tracking": {"uri": "sqlite:///x.db", "experiment": "a/b"}}, {}),
]


def by_name(found: Any) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for each in found:
        names.setdefault(each.name, []).append(each.value)
    return names


@pytest.mark.parametrize(("changes", "expected"), DATA)
def test_every_path_is_found_and_nothing_else(
    changes: dict[str, Any], expected: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = JobSpec.model_validate({**job().model_dump(mode="json"), **changes})
    data = spec.model_dump(mode="json")
    assert by_name(paths(spec)) == by_name(paths(data, JobSpec)) == expected
    monkeypatch.chdir(tmp_path)
    made = absolute(spec)
    full = {name: [v if "://" in v else str(tmp_path / v) for v in values] for name, values in expected.items()}
    assert by_name(paths(made)) == full and absolute(made) == made
    assert changed(data, lambda found: "x", JobSpec) == changed(spec, lambda found: "x").model_dump(mode="json")
    assert spec.model_dump(mode="json") == data, "the spec itself stays as it is"


class Changes(Spec):
    changes: Annotated[dict[str, JsonValue], NamesOf(JobSpec)]


def test_values_under_dotted_names_are_found_by_the_fields_that_have_them() -> None:
    teacher = {"teacher": {"kind": "model", "path": "some/model"}}
    given = {"data.train": "a.parquet", "distillation": teacher, "name": "a/b", "batch.mixup.alpha": 0.2, "epochs": 3}
    assert list(paths(Changes(changes=given))) == [
        Found("changes.data.train", ("changes", "data.train"), "a.parquet", ""),
        Found("changes.distillation.teacher.path", ("changes", "distillation", "teacher", "path"), "some/model", ""),
    ]


def test_what_must_be_here_refuses_a_url() -> None:
    spec = JobSpec.model_validate(
        {
            **job().model_dump(mode="json"),
            "distillation": {"teacher": {"kind": "job", "job": "s3://bucket/teacher.yaml"}},
        }
    )
    with pytest.raises(
        ValueError, match=r"distillation\.teacher\.job 's3://bucket/teacher.yaml': it must be a path of"
    ):
        absolute(spec)

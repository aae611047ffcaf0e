"""What the reference reads off spec classes and spec files."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import JobSpec
from jobs.specfile.pages import Book, in_few_words, users
from jobs.specfile.reference import papers, sections, used
from jobs.specfile.yaml import parse
from tuning.spec.search import SearchSpec

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("docstring", "cited"),
    [
        ("mixup (Zhang et al., arXiv 1710.09412): a mix", ("Zhang et al., arXiv 1710.09412",)),
        (
            "ResNet (He et al., arXiv 1512.03385) and arXiv 1812.01187.",
            ("He et al., arXiv 1512.03385", "arXiv 1812.01187"),
        ),
        ("the papers' form (arXiv 1807.11205, 1812.01187)", ("arXiv 1807.11205", "arXiv 1812.01187")),
        ("Median (Golovin et al.,\n    KDD 2017)", ("Golovin et al., KDD 2017",)),
        ("Lighting (AlexNet) of 2012 images (1,797 of them)", ()),
        (None, ()),
    ],
)
def test_papers(docstring: str | None, cited: tuple[str, ...]) -> None:
    assert papers(docstring) == cited


@pytest.mark.parametrize("cls", [JobSpec, SearchSpec])
def test_every_field_and_every_mapping_says_what_it_means(cls: type[JobSpec | SearchSpec]) -> None:
    known = sections(cls)
    assert [entry.full for section in known for entry in section.entries if not entry.meaning] == []
    assert [section.name for section in known if not section.meaning] == []
    names = [entry.full for section in known for entry in section.entries]
    assert len(set(names)) == len(names)


def test_a_field_in_words() -> None:
    entries = {entry.full: entry for section in sections(JobSpec) for entry in section.entries}
    alpha = entries["batch.mixup.alpha"]
    assert (alpha.name, alpha.values, alpha.default) == ("batch.mixup.alpha", "a number >= 0.0001 and <= 10000", "0.2")
    lr = entries["optimizer.sgd.lr"]
    assert (lr.name, lr.values, lr.default) == ("optimizer.lr", "a number > 0 or null", "null")
    assert entries["epochs"].default == "required" and entries["schedule"].default == "its own defaults"
    assert entries["loss"].default == "kind cross_entropy" and entries["batch"].default == "[]"
    assert entries["model.pretrained.file.path"].name == "model.pretrained.path"


def test_used_names_are_those_of_the_reference() -> None:
    for cls, folder in ((JobSpec, ROOT / "jobs" / "recipes"), (SearchSpec, ROOT / "tuning" / "searches")):
        known = {entry.full for section in sections(cls) for entry in section.entries}
        known |= {section.name for section in sections(cls)}
        for path in folder.rglob("*.yaml"):
            tree, _ = parse(path.read_text())
            assert tree is not None
            assert used(cls, tree.value) <= known
    assert used(JobSpec, {"batch": [{"kind": "mixup", "alpha": 1}], "optimizer": {"kind": "sgd"}}) == {
        *("batch", "batch.mixup", "batch.mixup.alpha", "optimizer", "optimizer.sgd"),
    }


def test_searches_count_for_what_they_set_and_vary(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "searches").mkdir()
    (tmp_path / "recipes" / "one.yaml").write_text("optimizer: {kind: sgd, lr: 1}\nbatch: [{kind: cutmix}]\n")
    search = "job: x/one.yaml\nset: {optimizer.lr: 2}\nspace: {batch.mixup.alpha: {kind: uniform, low: 1, high: 2}}\n"
    (tmp_path / "searches" / "two.yaml").write_text(search)
    books = {"job": Book(JobSpec, tmp_path / "recipes", ""), "search": Book(SearchSpec, tmp_path / "searches", "")}
    found = users(books, "job")
    assert found["optimizer.sgd.lr"] == ["one", "search two"] and found["batch.mixup.alpha"] == ["search two"]
    assert found["batch.cutmix"] == ["one"] and "optimizer.adam.lr" not in found
    assert users(books, "search")["space.NAME.uniform.low"] == ["two"]


def test_many_files_of_a_folder_are_counted() -> None:
    assert in_few_words(["digits", "a/1", "b/1", "b/2", "b/3", "b/4"]) == "digits, a/1, 4 of b/"

"""What the command does, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobs import specfile
from jobs.spec import JobSpec
from orchestrator.init.choose import choose
from orchestrator.init.facts import Survey
from orchestrator.init.look import look
from orchestrator.init.machine import Machine
from orchestrator.init.source import recognise
from orchestrator.init.start import Start
from orchestrator.init.survey import survey
from orchestrator.init.write import job_text, search_text
from tuning.spec.check import check
from tuning.spec.search import SearchSpec

Make = Callable[..., Path]
CPUS = Machine(2)
FRESH = Start()


def looked(path: Path) -> Survey:
    source, _ = recognise(path)
    classes, stores, _ = source.stores()
    return survey(source, classes, stores, look(stores, lambda *_: None))


def said(found: Survey) -> str:
    return "\n".join(
        "\n".join((f"{'!' if each.grave else '-'} {each.what}", *each.examples, each.cure)) for each in found.findings
    )


def chosen(found: Survey, tmp_path: Path, machine: Machine = CPUS, start: Start = FRESH) -> JobSpec:
    """The job as it is read back from the text."""
    recipe = choose("x", found, machine, start)
    path = tmp_path / "x.yaml"
    path.write_text(job_text(path, found, recipe, start.advice), encoding="utf-8")
    spec = specfile.read(path, JobSpec)
    assert spec == recipe.spec
    return spec


def search(found: Survey, tmp_path: Path, start: Start = FRESH, machine: Machine = CPUS) -> SearchSpec:
    """The search as it is read back from the text, with every end of every range tried on the job."""
    job = chosen(found, tmp_path, machine, start)
    recipe = choose("x", found, machine, start)
    path = tmp_path / "y.yaml"
    path.write_text(search_text("y", path, tmp_path / "x.yaml", found, recipe, machine)[0], encoding="utf-8")
    spec = specfile.read(path, SearchSpec)
    assert check(spec) == () and spec.base().name == job.name
    return spec

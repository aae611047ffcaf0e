"""What a driver prints of its run for machines is read back from a job's log, whatever else is in it."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from jobs.report import Record
from orchestrator.cli.progress import Display
from orchestrator.cluster.follow import Printer
from orchestrator.runs.standing import PREFIX, Standing, for_people
from orchestrator.tracking.state import State
from tests.jobs.digits_job import job


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"job_submission_id": "nightly"}}))


def test_only_a_submitted_job_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    Standing("nightly", "epochs").publish()
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("submitted")
def test_the_newest_counts_whatever_stands_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    first = Standing("nightly", "epochs", 3, 15, best=0.5)
    last = Standing("nightly", "epochs", 15, 15, best=0.97, status="FAILED", cause='a "cause"\nof two lines', kept="it")
    first.publish()
    last.publish()
    log = capsys.readouterr().out
    assert Standing.last(f"epoch 3/15\n{log}run nightly (FAILED: other)\n") == last
    assert Standing.last(log.replace("\n", "\nhalf a line ")) == last
    lines = log.splitlines()
    assert Standing.last(f"{lines[0]}\n{lines[1][:-5]}") == first, "cut off when the driver was killed"
    assert Standing.last("epoch 3/15  val/top1 0.5") is None and Standing.last(f"{PREFIX}[1]\n{PREFIX}3") is None
    newer = lines[1].replace("{", '{"more": 1, ', 1)
    assert Standing.last(newer) == last


def test_people_are_shown_the_rest() -> None:
    written = io.StringIO()
    printer = Printer(Console(file=written, width=200))
    printer(f'epoch 1/3\n{PREFIX}{{"run": "x"}}\nhalf {PREFIX}{{}}\n\nend\n')
    assert written.getvalue() == "epoch 1/3\nhalf \n\nend\n"
    assert for_people("") == "" and for_people(f"{PREFIX}{{}}") is None


@pytest.mark.usefixtures("submitted")
def test_the_display_says_how_far_a_run_is_and_its_best(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(Console(file=io.StringIO()), job())
    for epoch, top1 in ((1, 0.5), (2, 0.7), (3, 0.6)):
        records = [Record("val/top1", epoch, top1), Record("train/loss", epoch, 1.0)]
        display(State(None, records, epoch, 0, None, False, None))
    log = capsys.readouterr().out
    assert log.count(PREFIX) == 3
    assert Standing.last(log) == Standing(job().name, "epochs", 3, 3, best=0.7)

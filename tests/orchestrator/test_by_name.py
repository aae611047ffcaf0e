"""A run is named, and the same command goes on with it: what a preempted or resubmitted job needs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator.home import run_folder
from orchestrator.runs import origin, resume
from orchestrator.tracking.journal import read
from tests.orchestrator.real import DIGITS, ROOT, Command, mlflow_run, orchestrator, points


@pytest.mark.slow
def test_the_same_command_begins_a_run_goes_on_with_it_and_says_that_it_is_done(
    home: Path, warm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", DIGITS, "-s", "epochs=80", "-s", "resources.workers=1", "--run", "nightly")
    monkeypatch.setenv(origin._JOB, json.dumps({"metadata": {"job_submission_id": "nightly"}}))
    with Command(*words) as first:
        first.wait_for(r"epoch +3/")
        first.interrupt()
        assert first.end() == 130, first.output
    assert resume.begun("nightly") == "KILLED"
    changed = orchestrator(*words, "-s", "optimizer.lr=0.2")
    assert changed.returncode == 2
    assert "optimizer.lr: 0.1 in the run, 0.2 here" in changed.stderr

    monkeypatch.setenv(origin._JOB, json.dumps({"metadata": {"job_submission_id": "nightly-2"}}))
    second = orchestrator(*words)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "run nightly is resumed;" in second.stdout
    client, run = mlflow_run("nightly")
    assert (run.info.status, run.data.tags["ray.submission_id"]) == ("FINISHED", "nightly-2")
    assert [step for step, _ in points(client, run, "train/loss")] == list(range(1, 81))

    third = orchestrator(*words)
    assert third.returncode == 0
    assert third.stdout == "run      nightly (FINISHED): nothing is left to do\n"
    other = orchestrator(*words, "-s", "optimizer.lr=0.2", "-s", "budget.hours=1")
    assert other.returncode == 2
    assert "optimizer.lr: 0.1 in the run, 0.2 here\nTo train with the other values, start a new run" in other.stderr


@pytest.mark.slow
def test_a_search_goes_on_by_its_name_too(home: Path, warm: None, tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(
        f"name: small\njob: {ROOT / DIGITS}\nset: {{resources.workers: 1, epochs: 2, schedule.warmup_epochs: 0}}\n"
        "space: {optimizer.lr: {kind: loguniform, low: 0.01, high: 0.1}}\nsearcher: {kind: random}\n"
        "budget: {trials: 3}\nmax_concurrent: 1\n"
    )
    words = ("search", "launch", str(path), "--name", "nightly")
    with Command(*words) as first:
        first.wait_for(r"trial +0 +FINISHED")
        first.interrupt()
        assert first.end() == 130, first.output
    changed = orchestrator(*words, "-s", "seed=1")
    assert changed.returncode == 2
    assert "seed: 0 there, 1 here" in changed.stderr
    second = orchestrator(*words)
    assert second.returncode == 0, second.stdout + second.stderr
    events = [entry.event for entry in read(run_folder("nightly") / "search.jsonl")]
    begun = [event["ordinal"] for event in events if event["event"] == "trial"]
    assert (
        begun[:3] == [0, 1, 2] and len(set(begun)) == len(begun) and max(begun[3:], default=-1) < 0
    )  # then the winner
    third = orchestrator(*words)
    assert third.returncode == 0
    assert third.stdout == "search   nightly is over (trials): nothing is left to do\n"


@pytest.mark.slow
def test_a_name_that_is_none_is_refused(home: Path) -> None:
    done = orchestrator("train", DIGITS, "--run", "../elsewhere")
    assert done.returncode == 2
    assert "is not a valid name for a run" in done.stderr
    empty = orchestrator("train", DIGITS, "--run", "")
    assert empty.returncode == 2 and "'' is not a valid name for a run" in empty.stderr
    assert orchestrator("train", "--run", "nightly").returncode == 2
    assert orchestrator("train", DIGITS, "--run", "nightly", "--resume", "other").returncode == 2


def test_a_run_that_died_before_its_spec_was_kept_begins_again(home: Path) -> None:
    run_folder("early").mkdir(parents=True)
    assert resume.begun("early") is None


def test_the_revision_is_read_where_no_repository_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = origin.revision()
    monkeypatch.setenv(origin.REVISION, "0123abc")
    monkeypatch.setenv(origin.DIRTY, "True")
    assert origin.revision() == own, "the repository knows better"
    monkeypatch.setattr(origin, "__file__", str(tmp_path / "origin.py"))
    assert origin.revision() == {"revision": "0123abc", "revision.dirty": "True"}


def test_paths_in_an_earlier_working_directory_are_told_in_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_0a1b/data/train.csv"
    assert origin.here(there) == there
    folder = tmp_path / "working_dir_files" / "_ray_pkg_ff00"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert origin.here(there) == f"{folder}/data/train.csv"
    assert origin.here("/data/train.csv") == "/data/train.csv"
    assert os.getcwd() == str(folder)

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from jobs.report import Record
from orchestrator.home import default_uri, run_folder
from orchestrator.runs import store
from orchestrator.tracking import places
from orchestrator.tracking import recorder as recorder_module
from orchestrator.tracking.mlflow import Shipper, connect
from orchestrator.tracking.recorder import Recorder
from tests.orchestrator.real import orchestrator


def run(name: str, status: str | None, epochs: int = 2) -> Recorder:
    """A run with files of known sizes; without a status it is still open."""
    recorder = Recorder(run_folder(name), ship=False)
    recorder.begin(name, "digits", params={"epochs": 5}, parent="search")
    for epoch in range(1, epochs + 1):
        recorder.record([Record("train/loss", epoch, 1 / epoch), Record("val/top1", epoch, epoch / 10)])
    for path, size in {"checkpoints/step_2/tensors": 500, "model/weights": 300, "figures/a.png": 20}.items():
        file = recorder.folder / path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * size)
    if status == "FINISHED":
        recorder.record([Record("test/top1", epochs, 0.9)])
    if status:
        recorder.end(status)
        recorder.close()
    return recorder


def test_runs_are_listed_newest_first(home):
    assert store.list_runs() == []
    run("done", "FINISHED")
    time.sleep(0.01)
    live = run("live", None, epochs=1)
    died = Recorder(run_folder("died"), ship=False)
    died.begin("died", "digits")
    died.close()
    newest, second, first = store.list_runs()
    assert (newest.name, newest.status, newest.epochs, newest.val_top1, newest.behind) == ("died", "KILLED", 0, None, 1)
    assert (second.name, second.status, second.epochs, second.epochs_in_all) == ("live", "RUNNING", 1, 5)
    assert (first.name, first.status, first.experiment, first.parent) == ("done", "FINISHED", "digits", "search")
    assert (first.epochs, first.val_top1, first.test_top1, first.behind) == (2, 0.2, 0.9, 11)
    assert (first.size.checkpoints, first.size.model) == (500, 300)
    assert first.size.rest > 20
    assert first.size.total == store.size_of(run_folder("done"))
    live.close()


def test_a_run_that_cannot_be_read_is_listed_all_the_same(home):
    run("broken", "FINISHED")
    journal = run_folder("broken") / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"digits", b"didits"))
    (broken,) = store.list_runs()
    assert broken.name == "broken"
    assert "line 1 is corrupt" in str(broken.error)


def test_an_unknown_run_is_met_with_the_nearest_names(home):
    run("cifar-20260101", "FINISHED")
    assert store.find("cifar-20260101") == run_folder("cifar-20260101")
    with pytest.raises(ValueError, match="did you mean cifar-20260101"):
        store.find("cifar-20260110")
    for odd in ("", ".", "..", "../runs/cifar-20260101", "zzz"):
        with pytest.raises(ValueError, match=r"orchestrator runs list|did you mean"):
            store.find(odd)


def test_a_removed_run_is_gone_here_and_in_mlflow(home):
    recorder = run("done", "FINISHED")
    other = run("other", "FINISHED")
    with_artifact = Recorder(recorder.folder, ship=False)
    with_artifact.begin("done", "digits")
    with_artifact.artifact("model/weights", "model")
    with_artifact.end("FINISHED")
    with_artifact.close()
    Shipper(recorder.folder).ship()
    Shipper(other.folder).ship()
    mlflow = connect(default_uri(), home / "artifacts")
    _, run_id = Shipper(recorder.folder).target
    held = store.size_of(recorder.folder)
    assert store.size_of(home / "artifacts") == 300
    assert store.remove("done")["done"] >= held + 300
    assert not recorder.folder.exists()
    assert store.size_of(home / "artifacts") == 0
    assert os.listdir(home / "runs") == ["other"]
    assert mlflow.get_run(run_id).info.lifecycle_stage == "deleted"
    assert mlflow.get_run(Shipper(other.folder).target[1]).info.lifecycle_stage == "active"
    store.remove("other", keep_in_mlflow=True)
    assert len(mlflow.search_runs([mlflow.get_experiment_by_name("digits").experiment_id])) == 1


def test_a_live_run_is_not_removed(home):
    live = run("live", None)
    with pytest.raises(ValueError, match=f"still running \\(pid {os.getpid()} .*stop it first"):
        store.remove("live")
    live.close()
    assert store.remove("live")["live"] > 820


def test_with_a_search_its_trials_go_but_not_its_teachers(home):
    for name, tags in {"hunt": {"kind": "search"}, "hunt-0000": {"search": "hunt"}, "hunt-teacher": {}}.items():
        recorder = Recorder(run_folder(name), ship=False)
        recorder.begin(name, "digits", tags=tags, parent=None if name == "hunt" else "hunt")
        recorder.end("FINISHED")
        recorder.close()
        Shipper(recorder.folder).ship()
    live = Recorder(run_folder("hunt-0001"), ship=False)
    live.begin("hunt-0001", "digits", tags={"search": "hunt"}, parent="hunt")
    with pytest.raises(ValueError, match="run hunt-0001 is still running"):
        store.remove("hunt")
    assert len(store.list_runs()) == 4, "nothing was deleted"
    live.close()
    removed = orchestrator("runs", "rm", "hunt")
    assert re.fullmatch(r"hunt and 2 runs of it: \S+ MB freed\n", removed.stdout), removed.stdout + removed.stderr
    assert [each.name for each in store.list_runs()] == ["hunt-teacher"]
    mlflow = connect(default_uri(), home / "artifacts")
    left = mlflow.search_runs([mlflow.get_experiment_by_name("digits").experiment_id])
    assert [run.info.run_name for run in left] == ["hunt-teacher"]


def test_gc_takes_what_is_not_needed_any_more(home):
    finished, failed = run("finished", "FINISHED").folder, run("failed", "FAILED").folder
    live = run("live", None)
    (finished / "shipped.tmp").write_bytes(b"12")
    (live.folder / "shipped.tmp").write_bytes(b"12")
    cut_short = home / "runs" / ".removed-old"
    cut_short.mkdir()
    (cut_short / "weights").write_bytes(b"123")
    expected = [(cut_short, 3), (finished / "shipped.tmp", 2), (finished / "checkpoints", 500)]
    assert [(freed.path, freed.bytes) for freed in store.gc(dry_run=True)] == expected
    assert all(path.exists() for path, _ in expected)
    assert {run.name for run in store.list_runs()} == {"finished", "failed", "live"}
    assert [(freed.path, freed.bytes) for freed in store.gc()] == expected
    assert not any(path.exists() for path, _ in expected)
    assert store.gc() == []
    assert [freed.path for freed in store.gc(keep_model=False)] == [finished / "model"]
    for kept in (failed / "checkpoints", failed / "model", live.folder / "checkpoints", live.folder / "shipped.tmp"):
        assert kept.exists()
    live.close()


@pytest.mark.parametrize("where", ["{home}/runs", "{home}/artifacts/../../outside", "{home}", "{home}/artifacts/link"])
def test_a_folder_that_is_not_of_the_run_s_artifacts_is_not_deleted(home, where):
    recorder, other = run("done", "FINISHED"), run("other", "FINISHED")
    Shipper(recorder.folder).ship()
    uri, run_id = Shipper(recorder.folder).target
    mlflow = connect(uri, home / "artifacts")
    outside = home.parent / "outside"
    outside.mkdir()
    (outside / "theirs").write_text("theirs")
    (home / "artifacts" / run_id).mkdir(parents=True)
    (home / "artifacts" / "link").symlink_to(outside)
    (home / "artifacts" / run_id / "artifacts").symlink_to(outside)
    for told in (where.format(home=home), f"{home}/artifacts/{run_id}/artifacts"):  # the second is a link
        with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as database, database:
            database.execute("update runs set artifact_uri = ? where run_uuid = ?", (f"file://{told}", run_id))
        with pytest.raises(
            ValueError, match=f"MLflow has {re.escape(told)} as the folder of the artifacts of run done"
        ):
            store.remove("done")
    assert mlflow.get_run(run_id).info.lifecycle_stage == "active"
    assert recorder.folder.exists() and other.folder.exists() and (outside / "theirs").exists()


def test_in_a_storage_only_what_runs_write_is_deleted(home, tmp_path):
    mine = run("documents", "FINISHED").folder
    (mine / "spec.yaml").write_text(f"checkpoint: {{storage: {tmp_path}}}")
    kept, gone = tmp_path / "documents" / "letter.txt", tmp_path / "documents" / "model" / "model.json"
    gone.parent.mkdir(parents=True)
    gone.write_text("ours")
    kept.write_text("dear")
    store.remove("documents")
    assert kept.exists() and not gone.parent.exists() and not mine.exists()


def test_a_database_elsewhere_that_its_first_run_makes_gets_the_run(home, tmp_path):
    Shipper(run("one", "FINISHED").folder).ship()
    uri = f"sqlite:///{tmp_path}/team/mlflow.db"  # called as that of the home, which is there
    (tmp_path / "team").mkdir()
    recorder = Recorder(home / "runs" / "two", ship=False)
    recorder.begin("two", "digits", uri)
    recorder.end("FINISHED")
    recorder.close()
    (shipper := Shipper(recorder.folder)).ship()
    assert shipper.target[0] == uri
    names = {}
    for store_uri in (uri, default_uri()):
        mlflow = connect(store_uri, home / "artifacts")
        experiment = mlflow.get_experiment_by_name("digits").experiment_id
        names[store_uri] = [run.info.run_name for run in mlflow.search_runs([experiment])]
    assert names == {uri: ["two"], default_uri(): ["one"]}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True])
def test_a_copied_home_is_a_home_of_its_own(home, monkeypatch, older):
    """``older``: the paths in it are absolute, as earlier versions kept them."""
    if older:
        monkeypatch.setattr(places, "relative", lambda uri, folder: uri)
        monkeypatch.setattr(recorder_module, "relative", lambda uri, folder: uri)
    for name in ("one", "two", "three"):
        begun = run(name, None)
        (begun.folder / "spec.yaml").write_text(name)
        begun.artifact("spec.yaml")
        begun.end("FINISHED")
        begun.close()
        if name != "three":  # which MLflow does not have yet
            Shipper(begun.folder).ship()
    monkeypatch.undo()
    copy, moved = home.with_name("copy"), home.with_name("moved")
    shutil.copytree(home, copy)
    before = contents(home)
    assert str(home).encode() in before[Path("mlflow.db")]
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(copy))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    resumed = Recorder(copy / "runs" / "two", ship=False)
    resumed.begin("two", "digits")
    (resumed.folder / "later.txt").write_text("later")
    resumed.artifact(resumed.folder / "later.txt")
    resumed.end("FINISHED")
    resumed.close()
    synced, removed = (
        orchestrator("sync"),
        orchestrator("runs", "rm", "one"),
    )  # processes that know nothing of the original
    assert (synced.returncode, removed.returncode) == (0, 0), synced.stdout + synced.stderr + removed.stderr
    assert contents(home) == before, "nothing of the original was touched"
    mlflow = connect(default_uri(), copy / "artifacts")
    experiment = mlflow.get_experiment_by_name("digits").experiment_id
    assert {run.info.run_name for run in mlflow.search_runs([experiment])} == {"two", "three"}
    assert str(home).encode() not in (copy / "runs" / "two" / "shipped.json").read_bytes()
    copy.rename(moved)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(moved))
    (moved / "runs" / "two" / "shipped.json").unlink()
    again = orchestrator("sync")
    assert again.returncode == 0 and "two: " in again.stdout, again.stdout
    uri, run_id = Shipper(moved / "runs" / "two").target
    assert uri == f"sqlite:///{moved}/mlflow.db"
    assert sorted(os.listdir(moved / "artifacts" / run_id / "artifacts")) == ["later.txt", "spec.yaml"]
    assert not copy.exists() and contents(home) == before

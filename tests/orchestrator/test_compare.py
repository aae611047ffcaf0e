from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.report import Record
from orchestrator.home import default_uri, run_folder
from orchestrator.runs.compare import compare
from orchestrator.runs.links import children, ui
from orchestrator.runs.links import compare as compare_page
from orchestrator.tracking.mlflow import Shipper, connect
from orchestrator.tracking.recorder import Recorder
from tests.orchestrator.real import orchestrator

PARAMS: dict[str, Any] = {"name": "digits", "epochs": 3, "optimizer.lr": 0.1, "batch.mixup": True, "select": "last"}


def run(name: str, top1: list[float], status: str | None = "FINISHED", **more: Any) -> None:
    """A run with these values of val/top1 and these changes to its spec."""
    recorder = Recorder(run_folder(name), ship=False)
    more_tags = more.pop("later", {})
    params = {**PARAMS, "name": name, **more.pop("params", {})}
    recorder.begin(
        name, more.pop("experiment", "digits"), params={k: v for k, v in params.items() if v != "gone"}, **more
    )
    for epoch, value in enumerate(top1, 1):
        values = {"train/loss": 1.0, "val/top1": value, "val/loss": 1 - value, "epoch_s": 2.0}
        recorder.record([Record(metric, epoch, at) for metric, at in values.items()])
    if status == "FINISHED":
        recorder.record([Record("test/top1", len(top1), 0.5)])
    for key, value in more_tags.items():
        recorder.tag(key, value)
    if status:
        recorder.end(status)  # type: ignore[arg-type]
    recorder.close()


def search(name: str, tops: list[float | None], **params: Any) -> None:
    run(name, [], params={"metric": "val/top1", "mode": "max", "objectives": [], **params}, tags={"kind": "search"})
    for ordinal, top in enumerate(tops):
        run(
            f"{name}-{ordinal:04d}",
            [] if top is None else [0.1, top],
            "FAILED" if top is None else "FINISHED",
            params={"optimizer.lr": 0.1 * (ordinal + 1)},
            tags={"ordinal": str(ordinal)},
            parent=name,
        )
    run(f"{name}-teacher-1", [0.99], tags={}, parent=name)


def test_only_what_differs_is_told(home: Path) -> None:
    run("one", [0.2, 0.4])
    run("other", [0.3], "KILLED", params={"optimizer.lr": 0.2, "batch.mixup": "gone", "batch.mixup.alpha": 0.4})
    found = compare(["one", "other", "one"])
    assert found.differing == ["optimizer.lr", "batch.mixup", "batch.mixup.alpha"]
    one, other = found.rows
    assert (one.name, one.status, one.epochs) == ("one", "FINISHED", 2)
    assert (one.values["val/top1"], one.values["test/top1"], one.values["seconds"]) == (0.4, 0.5, 4.0)
    assert (other.name, other.status, other.epochs) == ("other", "KILLED", 1)
    assert "test/top1" not in other.values
    assert compare(["one"]).differing == []


def test_why_a_trial_ended_is_told(home: Path) -> None:
    run("stopped", [0.2], later={"stopped_by": "asha"})
    run("failed", [0.2], "FAILED", later={"failure": "memory", "cause": "out of memory"})
    run("again", [0.2], later={"failure": "memory", "cause": ""})
    rows = compare(["stopped", "failed", "again"]).rows
    assert [row.status for row in rows] == ["FINISHED (asha)", "FAILED (memory)", "FINISHED"]


def test_the_best_epoch_counts_where_its_weights_are_selected(home: Path) -> None:
    run("best", [0.2, 0.6, 0.4], params={"select": "best"})
    (row,) = compare(["best"]).rows
    assert row.values["val/top1"] == 0.6 and row.values["val/loss"] == pytest.approx(0.4)
    assert row.values["train/loss"] == 1.0


def test_a_member_of_a_population_is_shown_with_what_it_took_over(home: Path) -> None:
    run("one", [0.2])
    run("other", [0.2])
    for name, epoch, rate in (("one", 0, 0.1), ("other", 0, 0.1), ("other", 2, 0.4)):
        recorder = Recorder(run_folder(name), ship=False)
        recorder.begin(name, "digits")
        recorder.record([Record("params/optimizer.lr", epoch, rate)])
        recorder.close()
    found = compare(["one", "other"])
    assert [row.params["optimizer.lr"] for row in found.rows] == [0.1, 0.4] and found.differing == ["optimizer.lr"]


def test_a_search_is_its_trials_the_best_first(home: Path) -> None:
    search("lr", [0.2, None, 0.9, 0.5])
    search("lr-2", [0.95])
    found = compare(["lr"])
    assert [row.name for row in found.rows] == ["lr-0002", "lr-0003", "lr-0000", "lr-0001"]
    assert found.differing == ["optimizer.lr"] and found.left_out == 0
    few = compare(["lr", "lr-2-0000", "lr-0002"], most=2)
    assert [row.name for row in few.rows] == ["lr-0002", "lr-0003", "lr-2-0000"]
    assert few.left_out == 2


def test_trials_of_a_removed_search_are_not_those_of_the_next(home: Path) -> None:
    search("lr", [0.2, 0.9, 0.3])
    shutil.rmtree(run_folder("lr"))
    shutil.rmtree(run_folder("lr-0000"))
    shutil.rmtree(run_folder("lr-teacher-1"))
    search("lr", [0.4])
    assert [row.name for row in compare(["lr"]).rows] == ["lr-0000"]


def test_the_goal_of_the_search_says_who_is_best(home: Path) -> None:
    search("loss", [0.2, 0.9], metric="val/loss", mode="min")
    found = compare(["loss"])
    assert [row.name for row in found.rows] == ["loss-0001", "loss-0000"]
    assert found.metrics == ["val/loss", "val/top1", "test/top1"], "what put them in order is shown"
    assert compare(["loss-0000"]).metrics == ["val/top1", "test/top1"]
    search(
        "front", [0.2, 0.9], objectives=[{"metric": "val/loss", "mode": "max"}, {"metric": "seconds", "mode": "min"}]
    )
    assert [row.name for row in compare(["front"]).rows] == ["front-0000", "front-0001"]


def test_the_ui_is_that_of_the_store_that_has_the_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "the team").mkdir()
    database = f"sqlite:///{tmp_path}/the team/mlflow.db"
    run("own", [0.5])
    run("theirs", [0.5], uri=database)
    for name in ("own", "theirs"):
        Shipper(run_folder(name)).ship()
    assert ui("own") == "orchestrator ui"
    assert shlex.split(ui("theirs")) == [f"MLFLOW_TRACKING_URI={database}", "orchestrator", "ui"]
    monkeypatch.setattr(Shipper, "target", ("http://team:5000/", "1"))
    assert ui("own") == "http://team:5000"


def test_unknown_names_meet_the_nearest_and_empty_searches_a_word(home: Path) -> None:
    search("empty", [])
    with pytest.raises(ValueError, match="search empty has no trials yet"):
        compare(["empty"])
    with pytest.raises(ValueError, match=r"no run 'emty'.*did you mean empty"):
        compare(["emty"])


@pytest.mark.slow
def test_the_command_prints_the_table_and_the_link(home: Path) -> None:
    run("one", [0.2, 0.4])
    run("other", [0.3], params={"optimizer.lr": 0.2}, experiment="elsewhere")
    done = orchestrator("compare", "one", "other")
    assert done.returncode == 0, done.stderr
    lines = {line[0]: line[1:] for line in (re.findall(r"[^\s│┃]+", row) for row in done.stdout.splitlines()) if line}
    assert lines["run"] == ["one", "other"] and lines["optimizer.lr"] == ["0.1", "0.2"]
    assert lines["val/top1"] == ["0.4000", "0.3000"] and lines["epochs"] == ["2", "1"]
    assert "compare" not in lines, "MLflow does not have them yet"
    for name in ("one", "other"):
        Shipper(run_folder(name)).ship()
    ids = [Shipper(run_folder(name)).target[1] for name in ("one", "other")]
    done = orchestrator("compare", "one", "other")
    link = re.search(r"^compare +(\S+)$", done.stdout, re.MULTILINE)
    assert link and all(run_id in link[1] for run_id in ids)
    assert "experiments=%5B%221%22%2C%20%222%22%5D" in link[1]
    done = orchestrator("compare", "on", "other")
    assert (done.returncode, done.stdout) == (2, "") and "did you mean one" in done.stderr


def test_many_runs_are_a_line_each(home: Path) -> None:
    search("lr", [0.1 * place for place in range(1, 10)] * 2)
    done = orchestrator("compare", "lr")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^│ lr-\d{4} ", done.stdout, re.MULTILINE)) == 10
    assert "8 more trials: --all shows them" in done.stdout
    done = orchestrator("compare", "lr", "--all")
    assert len(re.findall(r"^│ lr-\d{4} ", done.stdout, re.MULTILINE)) == 18


def test_links_leave_out_what_mlflow_has_lost(home: Path) -> None:
    for name in ("one", "two", "three"):
        run(name, [0.5])
        Shipper(run_folder(name)).ship()
    ids = {name: Shipper(run_folder(name)).target[1] for name in ("one", "two", "three")}
    connect(default_uri(), home / "artifacts").delete_run(ids["one"])
    (page,) = compare_page(ids)
    assert ids["one"] not in page and ids["two"] in page and ids["three"] in page
    assert compare_page(["one", "two"]) == []
    assert children("one", "val/top1", False) is None
    charts = children("two", "val/loss", True)
    assert charts and ids["two"] in charts and "metrics.%60val/loss%60&orderByAsc=true" in charts

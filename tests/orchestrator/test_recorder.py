from __future__ import annotations

import math
import pickle
import random
import signal
import subprocess
import sys

import pytest

from jobs.lock import Locked
from jobs.report import CONTINUE, STOP, Progress, Record
from orchestrator.home import default_uri, home, run_folder
from orchestrator.tracking.journal import FILE, read
from orchestrator.tracking.recorder import Recorder, records_of

PROGRESS = Progress(step=1, steps=10, epoch=1, epochs=2, loss=0.5, images_per_s=100.0, batch_size=8)

pytestmark = pytest.mark.usefixtures("home")

WRITER = """
from jobs.report import Record
from orchestrator.home import run_folder
from orchestrator.tracking.recorder import Recorder

recorder = Recorder(run_folder("run"), ship=False)
recorder.begin("run", "experiment")
for epoch in range(1, 2000):
    recorder.record([Record(name, epoch, epoch / 7) for name in ("train/loss", "lr", "val/top1")])
    print(epoch, flush=True)
"""


def recorder(name: str = "run", **begin) -> Recorder:
    made = Recorder(run_folder(name), ship=False)
    made.begin(name, "experiment", **begin)
    return made


def journal(name: str = "run") -> list[dict]:
    return [entry.event for entry in read(run_folder(name) / FILE)]


def values(records: list[Record]) -> list[tuple[str, int, float]]:
    return [(record.name, record.step, record.value) for record in records]


def test_home_is_its_owners_alone(home):
    from orchestrator import home as module

    assert module.home() == home
    assert home.stat().st_mode & 0o777 == 0o700
    assert default_uri() == f"sqlite:///{home}/mlflow.db"


def test_the_first_record_of_a_name_and_step_stays(caplog):
    run = recorder()
    run.record([Record("val/top1", 1, 0.5), Record("val/top1", 1, 0.6), Record("val/top1", 2, 0.7)])
    run.record([Record("val/top1", 2, 0.8), Record("val/loss", 2, 1.0)])
    best = [[("best/val/top1", epoch, value), ("best/epoch", epoch, epoch)] for epoch, value in ((1, 0.5), (2, 0.7))]
    expected = [("val/top1", 1, 0.5), ("val/top1", 2, 0.7), *best[0], *best[1], ("val/loss", 2, 1.0)]
    assert values(run.state().records) == expected
    assert values(records_of(journal())) == values(run.state().records)
    assert caplog.text.count("val/top1 at step 1 was 0.5 and came out as 0.6") == 1
    assert len(caplog.records) == 1  # once a name


@pytest.mark.parametrize(
    ("name", "first", "again", "differs"),
    [
        ("val/loss", 1.0, 1.0 + 1e-7, False),
        ("val/loss", 1.0, 1.0 + 1e-5, True),
        ("val/loss", math.nan, math.nan, False),
        ("val/loss", math.nan, 1.0, True),
        ("val/loss", math.inf, math.inf, False),
        ("lr", 0.1, 0.1 + 1e-9, True),
        ("images_per_s", 10.0, 20.0, False),
        ("epoch_s", 10.0, 20.0, False),
        ("peak_memory_mb", 10.0, 20.0, False),
        ("system/cpu_percent", 10.0, 20.0, False),
    ],
)
def test_a_recomputed_record_is_compared(caplog, name, first, again, differs):
    run = recorder()
    run.record([Record(name, 1, first)])
    run.close()
    resumed = recorder()
    resumed.record([Record(name, 1, again)])
    assert ("is kept" in caplog.text) == differs
    assert len(resumed.state().records) == 1


def test_a_resumed_run_knows_what_it_has():
    first = recorder(params={"epochs": 3}, tags={"a": "b"}, parent="search")
    first.record([Record("train/loss", 1, math.nan), Record("train/loss", 2, -math.inf)])
    first.tag("precision", "fp32")
    first.tag("cause", "driver died")
    first.end("KILLED")
    assert first.state().status == "KILLED"
    first.close()
    second = recorder(params={"epochs": 4})
    second.tag("precision", "fp32")
    state = second.state()
    assert state.status is None
    assert math.isnan(state.records[0].value)
    assert state.records[1].value == -math.inf
    kinds = ["begin", "metric", "metric", "tag", "tag", "end", "resume", "tag"]
    assert [event["event"] for event in journal()] == kinds
    assert journal()[-1]["value"] == ""  # the cause of an end that was none
    begin = journal()[0]
    assert (begin["params"], begin["tags"], begin["parent"]) == ({"epochs": 3}, {"a": "b"}, "search")


def test_the_display_gets_what_is_new_and_all_of_it_travels():
    run = recorder()
    run.record([Record("lr", 1, 0.1)])
    state = run.state()
    run.record([Record("lr", 2, 0.2)])
    progress = PROGRESS
    assert run.progress(progress) is CONTINUE
    later = pickle.loads(pickle.dumps(run.state(state.seen)))
    assert values(later.records) == [("lr", 2, 0.2)]
    assert (later.progress, later.seen, later.behind) == (progress, 2, 3)
    assert run.state(later.seen).records == []


def test_stop_reaches_the_loop_with_its_next_report():
    run = recorder()
    assert run.record([Record("lr", 1, 0.1)]) is CONTINUE
    run.stop()
    assert run.state().stopping
    assert run.progress(PROGRESS) is STOP
    assert run.record([]) is STOP


def test_one_recorder_a_run_and_one_run_a_folder():
    run = recorder()
    with pytest.raises(Locked, match="is held by pid"):
        Recorder(run_folder("run"))
    run.close()
    with pytest.raises(ValueError, match="holds the run 'run', not 'other'"):
        Recorder(run_folder("run"), ship=False).begin("other", "experiment")


def test_an_artifact_must_be_there():
    run = recorder()
    with pytest.raises(ValueError, match=r"there is no file .*/run/spec.yaml.*write it first"):
        run.artifact("spec.yaml")


def test_passwords_are_refused_in_a_spec_and_not_written_down(monkeypatch):
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_PASSWORD") as error:
        recorder(uri="https://me:hunter2@mlflow.example.org")
    assert "hunter2" not in str(error.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow.example.org/x")
    run = recorder("other")
    run.close()
    assert journal("other")[0]["uri"] == "https://me@mlflow.example.org/x"
    assert b"hunter2" not in (run_folder("other") / FILE).read_bytes()


def test_kill_9_of_the_recorder_neither_loses_nor_repeats_a_record():
    draws = random.Random(1)
    told = 0
    for life in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(draws.randrange(20, 80) * (life + 1)):
                told = max(told, int(writer.stdout.readline()))
            writer.send_signal(signal.SIGKILL)
            told = max([told, *map(int, writer.stdout.read().split())])
    run = recorder()
    records = run.state().records
    assert len({(record.name, record.step) for record in records}) == len(records) >= 5 * told
    assert all(record.value == record.step / (1 if record.name == "best/epoch" else 7) for record in records)
    assert home() in run_folder("run").parents


def best_of(name: str = "run") -> dict[str, list[tuple[int, float]]]:
    series: dict[str, list[tuple[int, float]]] = {}
    for record in records_of(journal(name)):
        if record.name.startswith("best/"):
            series.setdefault(record.name, []).append((record.step, record.value))
    return series


def test_the_best_value_and_its_epoch_are_series_of_their_own():
    run = recorder()
    for epoch, top1 in enumerate((0.5, math.nan, 0.7, 0.6, 0.7), 1):
        run.record([Record("val/top1", epoch, top1), Record("val/loss", epoch, 1 - top1)])
    assert best_of() == {"best/val/top1": [(1, 0.5), (3, 0.7)], "best/epoch": [(1, 1.0), (3, 3.0)]}
    run.close()
    resumed = recorder()  # from a checkpoint before epoch 4, which brings its records along
    known = enumerate((0.5, math.nan, 0.7, 0.6, 0.7, 0.8), 1)
    resumed.record([Record("val/top1", epoch, top1) for epoch, top1 in known])
    assert best_of() == {"best/val/top1": [(1, 0.5), (3, 0.7), (6, 0.8)], "best/epoch": [(1, 1.0), (3, 3.0), (6, 6.0)]}


def test_the_best_is_that_of_the_objective():
    run = recorder(tags={"objective": "val/loss min"})
    run.record([Record(name, epoch, epoch / 7) for epoch in (3, 2, 4) for name in ("val/loss", "val/top1")])
    assert best_of() == {"best/val/loss": [(3, 3 / 7), (2, 2 / 7)], "best/epoch": [(3, 3.0), (2, 2.0)]}

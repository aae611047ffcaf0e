from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.lock import Lock, Locked
from jobs.report import Record
from jobs.urls import redact
from orchestrator.execution.capacity import Cluster
from orchestrator.home import default_uri, run_folder
from orchestrator.prepare import prepare
from orchestrator.tracking.journal import FILE, Journal, read
from orchestrator.tracking.mlflow import Shipper, connect
from orchestrator.tracking.recorder import Recorder
from orchestrator.tracking.sync import sync
from orchestrator.tracking.uri import check_uri, full_uri
from tests.orchestrator.real import job

pytestmark = pytest.mark.slow

PYTHON = sys.executable


def recorder(name: str = "run", experiment: str = "digits", ship: bool = False, **begin) -> Recorder:
    made = Recorder(run_folder(name), ship=ship)
    made.begin(name, experiment, **begin)
    return made


def epochs(first: int, last: int) -> list[Record]:
    return [Record(name, epoch, epoch / 10) for epoch in range(first, last + 1) for name in ("train/loss", "val/top1")]


def ship(name: str = "run") -> None:
    shipper = Shipper(run_folder(name))
    shipper.ship()
    assert shipper.seq == len(read(run_folder(name) / FILE))


def client(uri: str | None = None):
    return connect(uri or default_uri(), run_folder("run").parents[1] / "artifacts")


def points(mlflow, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in mlflow.get_metric_history(run_id, name)]


def all_runs(mlflow, experiment: str = "digits"):
    found = mlflow.get_experiment_by_name(experiment)
    return mlflow.search_runs([found.experiment_id]) if found else []


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < until, "waited for three minutes"
        time.sleep(0.05)


def test_a_run_arrives_whole_and_shipping_it_again_changes_nothing(home, caplog):
    run = recorder(
        params={"epochs": 9, "optimizer.lr": 0.1, "ema": None, "milestones": [1, 2], "long": "x" * 7000},
        tags={"host": "here", "long": "y" * 9000},
    )
    run.record(epochs(1, 150))  # more than one batch
    run.record([Record("nan", 1, math.nan), Record("inf", 1, math.inf), Record("val/recall/a*b", 1, 0.5)])
    run.record([Record("val/recall/a?b", 1, 0.25), Record("val/recall/../x", 1, 0.75)])
    run.tag("precision", "bf16")
    (run.folder / "figures").mkdir()
    (run.folder / "figures" / "a.png").write_bytes(b"png")
    (run.folder / "spec.yaml").write_text("name: run")
    (run.folder / "gone.txt").write_text("soon")
    run.artifact("spec.yaml")
    run.artifact("figures", "figures")
    run.artifact(run.folder / "gone.txt")
    (run.folder / "gone.txt").unlink()
    run.end("FINISHED")
    run.close()
    mlflow = client()

    def check() -> str:
        (found,) = all_runs(mlflow)
        run_id = found.info.run_id
        assert points(mlflow, run_id, "val/top1") == [(epoch, epoch / 10) for epoch in range(1, 151)]
        assert len(mlflow.get_metric_history(run_id, "train/loss")) == 150
        assert math.isnan(points(mlflow, run_id, "nan")[0][1])
        assert points(mlflow, run_id, "inf")[0][1] > 1e300
        recalls = {name: value for name, value in found.data.metrics.items() if "recall" in name}
        assert sorted(recalls.values()) == [0.25, 0.5, 0.75]
        params = found.data.params
        long = params.pop("long")
        assert params == {"epochs": "9", "optimizer.lr": "0.1", "ema": "null", "milestones": "[1, 2]"}
        assert (len(long), long[-5:]) == (6000, "(cut)")
        assert len(found.data.tags["long"]) == 8000
        assert (found.data.tags["host"], found.data.tags["precision"]) == ("here", "bf16")
        assert found.data.tags["orchestrator.run"] == found.info.run_name == "run"
        begin, end = read(run.folder / FILE)[0].event, read(run.folder / FILE)[-1].event
        assert found.info.status == "FINISHED"
        assert found.info.start_time == int(begin["time"] * 1000)
        assert found.info.end_time == int(end["time"] * 1000)
        assert {item.path for item in mlflow.list_artifacts(run_id)} == {"spec.yaml", "figures"}
        assert [item.path for item in mlflow.list_artifacts(run_id, "figures")] == ["figures/a.png"]
        assert found.info.artifact_uri == f"file://{home}/artifacts/{run_id}/artifacts"
        return run_id

    ship()
    assert caplog.text.count("gone.txt of run run is gone") == 1
    first = check()
    (run.folder / "shipped.json").unlink()  # as after a crash between creating the run and noting it
    ship()
    assert check() == first
    (run.folder / "shipped.json").write_text('{"seq": 3, "end"')
    ship()
    assert check() == first


def test_what_mlflow_lost_is_made_again_from_the_journals(home):
    run = recorder()
    run.record(epochs(1, 3))
    run.end("FINISHED")
    run.close()
    ship()
    (before,) = all_runs(client())
    assert sync(home) == []
    client()._tracking_client.store._hard_delete_run(before.info.run_id)
    resumed = recorder()
    resumed.record(epochs(4, 5))
    resumed.end("FINISHED")
    resumed.close()
    ship()  # the cursor names a run that is no more
    (after,) = all_runs(client())
    assert after.info.run_id != before.info.run_id
    assert points(client(), after.info.run_id, "val/top1") == [(epoch, epoch / 10) for epoch in range(1, 6)]
    client()._tracking_client.store._hard_delete_run(after.info.run_id)
    assert [(done.run, done.left, done.error) for done in sync(home, again=True)] == [("run", 0, None)]
    assert len(all_runs(client())) == 1


def test_children_stand_under_their_parent(home):
    child = recorder("search-1", parent="search")
    parent = recorder("search")
    with pytest.raises(RuntimeError, match="its parent search is not there yet"):
        Shipper(child.folder).ship()
    ship("search")
    ship("search-1")
    orphan = recorder("orphan", parent="deleted")
    ship("orphan")
    found = {run.info.run_name: run for run in all_runs(client())}
    assert found["search-1"].data.tags["mlflow.parentRunId"] == found["search"].info.run_id
    assert "mlflow.parentRunId" not in found["search"].data.tags | found["orphan"].data.tags
    for run in (child, parent, orphan):
        run.close()


def test_four_processes_may_open_a_new_home_at_once(home):
    program = """
import sys
from orchestrator.home import run_folder
from orchestrator.tracking.recorder import Recorder
recorder = Recorder(run_folder(sys.argv[1]))
recorder.begin(sys.argv[1], "digits")
recorder.end("FINISHED")
sys.exit(recorder.close(120))
"""
    started = [
        subprocess.Popen([PYTHON, "-c", program, f"run-{k}"], stderr=subprocess.PIPE, text=True) for k in range(4)
    ]
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
    assert sorted(run.info.run_name for run in all_runs(client())) == [f"run-{k}" for k in range(4)]


def test_kill_9_of_the_shipper_neither_loses_nor_repeats_a_point(home):
    run = recorder()
    for epoch in range(1, 61):
        run.record(epochs(epoch, epoch))
        run.tag("epoch", str(epoch))  # so that each epoch is a batch of its own
    run.end("FINISHED")
    run.close()
    client()
    program = """
import sys
from pathlib import Path
from orchestrator.tracking.mlflow import Shipper
Shipper(Path(sys.argv[1])).ship()
"""
    total = len(read(run.folder / FILE))
    for kill_at in (1, 20, 90):
        with subprocess.Popen([PYTHON, "-c", program, str(run.folder)]) as process:
            wait(lambda at=kill_at: Shipper(run.folder).seq >= at)
            process.send_signal(signal.SIGKILL)
        assert kill_at <= Shipper(run.folder).seq < total
    assert [(done.run, done.left, done.error) for done in sync(home)] == [("run", 0, None)]
    (found,) = all_runs(client())
    assert points(client(), found.info.run_id, "val/top1") == [(epoch, epoch / 10) for epoch in range(1, 61)]
    assert found.data.tags["epoch"] == "60"


def test_only_one_process_ships_a_run(home):
    recorder().close()
    with Lock(run_folder("run") / "shipped.lock"), pytest.raises(Locked, match="is held by pid"):
        Shipper(run_folder("run")).ship()


def test_sync_ends_a_run_whose_driver_died_and_leaves_live_ones_alone(home):
    program = """
import os, signal
from jobs.report import Record
from orchestrator.home import run_folder
from orchestrator.tracking.recorder import Recorder
recorder = Recorder(run_folder("dead"), ship=False)
recorder.begin("dead", "digits")
recorder.record([Record("lr", 1, 0.1)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([PYTHON, "-c", program], check=False)
    live = recorder("live")
    finished = recorder("finished")
    finished.end("FAILED")
    finished.close()
    Journal(run_folder("empty") / FILE).close()
    assert sorted((done.run, done.shipped, done.left, done.error) for done in sync(home)) == [
        ("dead", 4, 0, None),
        ("finished", 2, 0, None),
    ]
    found = {run.info.run_name: run for run in all_runs(client())}
    assert set(found) == {"dead", "finished"}
    assert found["dead"].info.status == "KILLED"
    assert found["dead"].data.tags["cause"] == "driver died"
    assert found["finished"].info.status == "FAILED"
    assert sync(home) == []
    live.close()
    broken = run_folder("finished") / FILE
    broken.write_bytes(broken.read_bytes().replace(b"digits", b"didits"))
    broken_one, live_one = sync(home)
    assert "line 1 is corrupt" in str(broken_one.error)
    assert (live_one.run, live_one.shipped, live_one.error) == ("live", 3, None)


def test_uris():
    for good in ("https://me@host/x", "http://localhost:5000", "sqlite:////a/b.db", "postgresql+psycopg2://me@db/x"):
        assert check_uri(good) == good
    for bad, cure in (
        ("./mlruns", "sqlite:////absolute"),
        ("file:///tmp/mlruns", "MLflow has given up plain folders"),
        ("sqlite:///mlflow.db", "absolute path after three slashes"),
        ("http://me:pw@host", "MLFLOW_TRACKING_PASSWORD"),
        ("postgresql://me:p%40w@db/x", "MLFLOW_TRACKING_URI"),
        ("postgresql://db/x?user=me&password=pw", "MLFLOW_TRACKING_URI"),
    ):
        with pytest.raises(ValueError, match=cure) as error:
            check_uri(bad)
        assert "pw" not in str(error.value)
        assert "p%40w" not in str(error.value)
    assert redact("at http://me:p@w@host/a: no") == "at http://me@host/a: no"
    assert redact("http://host:5000/a@b") == "http://host:5000/a@b"


def test_the_password_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw@host/x")
    assert full_uri("http://me@host/x") == "http://me:pw@host/x"
    assert full_uri("http://me@other/x") == "http://me@other/x"


class Server:
    """A real ``mlflow server`` on loopback that can be killed, frozen and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        folder.mkdir()

    def start(self) -> None:
        database = f"sqlite:///{self.folder / 'mlflow.db'}"
        command = [PYTHON, "-m", "mlflow", "server", "--backend-store-uri", database, "--workers", "1"]
        command += ["--port", str(self.port), "--artifacts-destination", (self.folder / "artifacts").as_uri()]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.process = subprocess.Popen(
            command, env=environment, cwd=self.folder, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait(self.answers)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self.uri}/health", timeout=5).status == 200
        assert self.process.poll() is None, "mlflow server ended"
        return False

    def send(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)
        if number == signal.SIGKILL:
            self.process.wait()


@pytest.fixture
def server(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    made = Server(tmp_path / "server")
    made.start()
    yield made
    with contextlib.suppress(ProcessLookupError):
        made.send(signal.SIGCONT)
        made.send(signal.SIGKILL)


def test_a_server_that_dies_or_freezes_costs_no_step_and_no_point(server, caplog):
    run = recorder(uri=server.uri, ship=True, params={f"p{k}": k for k in range(120)})
    run.record(epochs(1, 5))
    run.record([Record("nan", 1, math.nan)])
    wait(lambda: run.state().behind == 0)

    server.send(signal.SIGKILL)
    run.record(epochs(6, 10))
    wait(lambda: run.state().trouble is not None)
    run.record(epochs(11, 12))
    state = run.state()
    assert (len(state.records), state.behind) == (49, 28)
    assert "127.0.0.1" in state.trouble
    assert "tried again" in state.trouble

    server.start()
    wait(lambda: run.state().behind == 0)
    wait(lambda: run.state().trouble is None)
    assert caplog.text.count("The run continues and its journal keeps everything") == 1
    assert caplog.text.count("tracking works again") == 1

    server.send(signal.SIGSTOP)
    run.record(epochs(13, 20))  # returns although the server cannot have answered: it is still frozen
    run.end("FINISHED")
    assert run.state().behind == 33
    assert run.close(0.0) == 33
    server.send(signal.SIGCONT)

    (run.folder / "spec.yaml").write_text("name: run")
    late = recorder(uri=server.uri, ship=True)
    late.artifact("spec.yaml")
    late.end("FINISHED")
    wait(lambda: late.state().behind == 0)
    assert late.close(60.0) == 0
    mlflow = client(server.uri)
    for _ in range(2):
        (found,) = all_runs(mlflow)
        for name in ("train/loss", "val/top1"):
            assert points(mlflow, found.info.run_id, name) == [(epoch, epoch / 10) for epoch in range(1, 21)]
        assert len(points(mlflow, found.info.run_id, "nan")) == 1
        assert len(found.data.params) == 120
        assert found.info.status == "FINISHED"
        assert [item.path for item in mlflow.list_artifacts(found.info.run_id)] == ["spec.yaml"]
        Shipper(run.folder).ship(again=True)
    assert not (run.folder.parents[1] / "mlflow.db").exists()


_MAKE = """
import sys
from pathlib import Path
from orchestrator.tracking.mlflow import connect
connect(sys.argv[1], Path(sys.argv[2]))
"""


def test_a_database_in_a_missing_folder_is_refused_before_anything_starts(home, tmp_path):
    uri = f"sqlite:///{tmp_path}/none/mlflow.db"
    with pytest.raises(ValueError, match=rf"there is no folder {tmp_path}/none; make it, or correct the URI"):
        prepare(job(f"tracking.uri={uri}"), Cluster.here())
    (tmp_path / "none").mkdir()
    assert prepare(job(f"tracking.uri={uri}"), Cluster.here()).fit.problem is None
    assert prepare(job(), Cluster.here()).fit.problem is None


@pytest.mark.parametrize("after_bytes", [53_249, 69_633, 94_209])
def test_a_database_whose_maker_was_killed_is_made_again(home: Path, after_bytes: int) -> None:
    uri, folder = default_uri(), run_folder("run").parents[1]
    folder.mkdir(parents=True, exist_ok=True)

    def written() -> int:
        sizes = 0
        for name in ("mlflow.db", "mlflow.db.new"):
            with contextlib.suppress(FileNotFoundError):
                sizes += (folder / name).stat().st_size
        return sizes

    with subprocess.Popen([PYTHON, "-c", _MAKE, uri, str(folder / "artifacts")]) as making:
        while making.poll() is None and written() < after_bytes:
            time.sleep(0.001)
        making.kill()
    assert making.returncode == -signal.SIGKILL, "it was too fast"
    assert client().search_experiments()

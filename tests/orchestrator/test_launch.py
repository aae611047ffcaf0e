"""Jobs on real Ray with a real SQLite MLflow store and real images."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import ray
import typer

from jobs import models
from jobs.lock import Locked
from orchestrator.cli.console import exit_codes
from orchestrator.execution import compiling, launch
from orchestrator.execution.session import private_folder
from orchestrator.home import run_folder
from orchestrator.tracking import client
from orchestrator.tracking.journal import FILE, Journal, read
from orchestrator.tracking.recorder import Recorder
from tests.orchestrator.real import ROOT, job, mlflow_run, points

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


def test_the_demo_recipe_is_trained_tracked_and_kept() -> None:
    result = launch.train(job())
    assert (result.status, result.ended_by, result.behind) == ("FINISHED", "epochs", 0)
    assert result.metrics["test/top1"] >= 0.97
    client, run = mlflow_run(result.run)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.lr"] == "0.1" and run.data.params["batch.label_smoothing.epsilon"] == "0.1"
    for metric in ("train/loss", "val/loss", "val/top1", "val/top5", "val/recall/7", "lr", "images_per_s", "epoch_s"):
        assert [step for step, _ in points(client, run, metric)] == list(range(1, 16)), metric
    assert points(client, run, "test/top1") == [(15, result.metrics["test/top1"])]
    assert run.data.tags["precision"] in ("bf16", "fp32") and run.data.tags["dataset.digest"]
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"spec.yaml", "figures", "model"} <= artifacts
    loaded = models.load(str(run_folder(result.run) / "model"))
    data = job().data.open()
    right = loaded.predict(data.test.images).argmax(1) == data.test.labels
    assert right.mean() == pytest.approx(result.metrics["test/top1"], abs=0.01)


def test_a_worker_has_as_many_threads_as_cpus_whatever_the_environment_says() -> None:
    """The cluster of the tests has ``OMP_NUM_THREADS`` as whoever started them."""
    few = ("epochs=1", "schedule.warmup_epochs=0", "resources.workers=1", "resources.cpus_per_worker=2")
    result = launch.train(job(*few))
    assert result.status == "FINISHED"
    assert mlflow_run(result.run)[1].data.tags["device"].endswith("2 threads a worker)")


def test_a_job_whose_data_is_missing_is_refused_without_waiting_for_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[bool] = []
    monkeypatch.setattr(launch, "_start", started.append)
    missing = {"kind": "image_folder", "root": str(tmp_path / "photos"), "size": 32}
    with pytest.raises(ValueError, match="photos"):
        launch.train(job().override({"data": missing}))
    assert not started


_PRIVATE = """
import os, stat, sys
from pathlib import Path
from orchestrator.execution.session import start_ray
start_ray()
import ray
from ray._private.worker import global_worker
assert not (Path.home() / ".ray").exists(), "the token is in no file"
top = Path(global_worker.node.get_temp_dir_path()).parent
assert stat.S_IMODE(top.stat().st_mode) == 0o700 and os.listdir(top)
if os.geteuid() == 0:  # another user of the machine
    if os.fork() == 0:
        os.setuid(65534)
        try:
            os.listdir(top / "ray")
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.wait()[1] == 0, "a stranger reads Ray's folder"
import subprocess
stranger = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
stranger |= {"HOME": os.environ["HOME"] + "/stranger", "RAY_AUTH_MODE": "disabled"}
code = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False)"
command = [sys.executable, "-c", code, global_worker.gcs_client.address]
done = subprocess.run(command, env=stranger, capture_output=True, text=True)
assert done.returncode and "oken" in done.stderr, "joined without a token: " + done.stderr[-500:]
"""


def test_nobody_else_of_the_machine_reads_ray_s_files_or_joins(tmp_path: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    plain |= {"HOME": str(tmp_path), "RAY_TMPDIR": tempfile.mkdtemp(dir="/tmp")}  # sockets want a short path
    os.chmod(plain["RAY_TMPDIR"], 0o755)
    done = subprocess.run([sys.executable, "-c", _PRIVATE], cwd=ROOT, env=plain, capture_output=True, text=True)
    shutil.rmtree(plain["RAY_TMPDIR"])
    assert done.returncode == 0, done.stderr


def test_a_folder_that_another_user_made_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as top:  # sockets want a short path
        monkeypatch.setenv("RAY_TMPDIR", top)
        taken = Path(top) / f"ray-{os.geteuid()}"
        taken.mkdir(mode=0o755)
        found = private_folder()
        assert found != taken and stat.S_IMODE(found.stat().st_mode) == 0o700
        taken.chmod(0o700)
        assert private_folder() == taken


def test_a_temporary_folder_that_ray_cannot_use_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/proc")
    with pytest.raises(ConnectionError, match=r"cannot be put into /proc: .*; set RAY_TMPDIR to"):
        private_folder()
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{'x' * 60}")
    with pytest.raises(ConnectionError, match=r"is \d+ bytes too long .*; set RAY_TMPDIR to"):
        private_folder()


_STILL = """
import os, signal, threading, time, psutil
from orchestrator.execution import session
from orchestrator.execution.session import start_ray

def stop_the_gcs():  # as it is when the machine kills or starves a process that Ray is just starting
    while True:
        started = [each for each in psutil.Process().children() if "gcs_server" in each.name()]
        if started:
            started[0].suspend()
            return
        time.sleep(0.01)

session.START_S = 5.0
threading.Thread(target=stop_the_gcs, daemon=True).start()
try:
    start_ray(dashboard=False)
except ConnectionError as error:
    print(error)
left = psutil.wait_procs(psutil.Process().children(recursive=True), 10)[1]
assert not left, left
"""


def test_ray_that_does_not_start_is_given_up_with_the_cure(tmp_path: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", _STILL], cwd=ROOT, env=plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "starting Ray (local) failed: no answer within 5 s" in done.stdout and "try again" in done.stdout


class Mute:
    def state(self, run: str, seen: int) -> None:
        time.sleep(60)


def test_a_recorder_that_does_not_answer_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 1.0)
    monkeypatch.setattr(client, "_ONCE_MORE_S", 0.1)
    mute = ray.remote(Mute).options(num_cpus=0).remote()
    with pytest.raises(ConnectionError, match=r"recorder of this run .* has not answered for 1 s.*can be resumed"):
        client.RecorderClient(mute).state("run")
    ray.kill(mute)


def test_timing_a_job_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "LONGEST_S", 0.1)
    auto = job("compile=auto", "resources.wait_minutes=0")
    with pytest.raises(ConnectionError, match=r"timing the job for compile: auto .* set compile to true or false"):
        compiling.decide(auto, ray.put(auto.data.open()), 1, 1, lambda text, lasting: None)


def test_what_cannot_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ValueError, match=r"4 workers x 1 CPUs = 4 CPUs, but there are 2 CPUs"):
        launch.train(job("resources.workers=4"))


def test_a_non_finite_loss_fails_the_run_with_its_cause() -> None:
    result = launch.train(job("optimizer.lr=1e30", "name=nan"))
    assert result.status == "FAILED" and "loss is" in result.ended_by
    _, run = mlflow_run(result.run)
    assert run.info.status == "FAILED" and "NonFiniteLossError" in run.data.tags["cause"]


def test_a_run_that_another_process_has_started_meanwhile_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    holder = Journal(run_folder("race") / FILE)
    with pytest.raises(typer.Exit) as exited, exit_codes():
        launch.train(job(), name="race")
    holder.close()
    said = capsys.readouterr().err
    assert exited.value.exit_code == 1 and said.count("\n") == 1
    assert f"run race is running already: {run_folder('race')}/journal.lock is held by pid {os.getpid()}" in said
    recorder = Recorder(run_folder("race"), ship=False)
    recorder.begin("race", "digits")
    (recorder.folder / "spec.yaml").write_text("name: race")
    recorder.end("FINISHED")
    recorder.close()
    with pytest.raises(Locked, match="started by another process meanwhile and is FINISHED"):
        launch.train(job(), name="race")
    assert [entry.event["event"] for entry in read(recorder.folder / FILE)] == ["begin", "end"]


_UNSET = """
import os
from orchestrator.execution.launch import start_recorders
from orchestrator.execution.session import start_ray
start_ray(dashboard=False)
del os.environ["MLFLOW_TRACKING_URI"]
recorders = start_recorders()
recorders.begin("unset", "experiment")
recorders.end("unset", "FINISHED")
assert recorders.close() == 0
"""


@pytest.mark.usefixtures("home")
def test_a_notebook_that_unsets_the_tracking_server_is_tracked_in_its_home(tmp_path: Path) -> None:
    before = {"RAY_ADDRESS": "local", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'other.db'}"}
    subprocess.run([sys.executable, "-c", _UNSET], cwd=ROOT, env=os.environ | before, check=True)
    mlflow_run("unset")
    assert not (tmp_path / "other.db").exists()

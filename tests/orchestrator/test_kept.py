"""The cluster that ``orchestrator up`` keeps: private, the same as a command's own, and gone without a trace."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from jobs import allowed
from jobs.lock import Lock, Locked
from orchestrator.doctor import local
from orchestrator.doctor.finding import Finding
from orchestrator.execution import alike, kept, session
from orchestrator.execution.capacity import Cluster, fit
from orchestrator.execution.kept import Kept
from orchestrator.home import run_folder
from tests.orchestrator.real import DIGITS, ROOT, Command, job, listening, orchestrator, wait_until
from tests.strangers import answers, as_stranger, readable

_DRIVER = """
import json, os, ray, sys, time
from ray.util.placement_group import placement_group
from orchestrator.execution.session import start_ray
start_ray()
os.environ["ORCHESTRATOR_HOME"] = "/elsewhere"  # for what a notebook does next
time.sleep(2)
class Worker:
    def look(self):
        return dict(os.environ), os.getcwd(), sys.path
group = placement_group([{"CPU": 2}])
ray.get(group.ready())
big = ray.put(bytes(200_000_000))
worker = ray.remote(Worker).options(num_cpus=0).remote()
print(json.dumps(ray.get(worker.look.remote())), flush=True)
sys.stdin.read()
"""
_AFTER = """
import ray, time
from orchestrator.execution.session import start_ray
start_ray()
until = time.monotonic() + 60
while (free := ray.available_resources()) != ray.cluster_resources() and time.monotonic() < until:
    time.sleep(0.2)
print({name: (free.get(name), count) for name, count in ray.cluster_resources().items() if free.get(name) != count})
actors = ray._private.state.actors().values()
print([actor["ActorClassName"] for actor in actors if actor["State"] not in ("DEAD", "PENDING_CREATION")])
"""


def family(found: Kept) -> list[psutil.Process]:
    keeper = psutil.Process(found.pid)
    return [keeper, *keeper.children(recursive=True)]


def check_gone(found: Kept, processes: list[psutil.Process]) -> None:
    assert not psutil.wait_procs(processes, 60)[1], "a process was left behind"
    assert not Path(found.session).exists() and not kept.note().exists()
    assert not [link for link in Path(found.session).parent.iterdir() if link.is_symlink() and not link.exists()]


@pytest.mark.slow
def test_jobs_on_it_are_those_of_a_cluster_of_their_own(
    session_home: Path, finished_run: str, open_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(open_home.parent))
    monkeypatch.setenv("GONE", "1")
    started = orchestrator("up")
    assert started.returncode == 0, started.stdout + started.stderr
    monkeypatch.delenv("GONE")
    found = kept.find()
    assert found is not None and f"is up at {found.address}" in started.stdout
    assert kept.up(60) == (found, False)

    ports = listening(found.pid)
    assert all(alone for _, alone, _ in ports), "something listens on more than loopback"

    def look() -> None:
        assert readable(open_home.parent) == [open_home.parent]
        said = [answers(port, "/api/jobs/") for port, *_ in ports]  # the dashboard's page itself is open, and empty
        assert not [line for line in said if not re.match("HTTP/1.1 40[13] |gRPC", line)]

    as_stranger(look)
    everything = " ".join(" ".join(process.cmdline()) for process in family(found))
    assert found.token not in everything

    monkeypatch.setenv("GIVEN", "a secret")
    with subprocess.Popen(
        [sys.executable, "-c", _DRIVER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        environment, folder, paths = json.loads(driver.stdout.readline())
        assert environment["GIVEN"] == "a secret" and "GONE" not in environment
        assert environment["ORCHESTRATOR_HOME"] == str(open_home)
        assert folder == str(ROOT) and str(ROOT) in paths
        with pytest.raises(Locked, match=r"uses the cluster; wait .* orchestrator down --force"):
            kept.down(force=False)
        driver.kill()
    after = subprocess.run([sys.executable, "-c", _AFTER], cwd=ROOT, capture_output=True, text=True)
    assert after.stdout.split("\n")[:2] == ["{}", "[]"], after.stdout + after.stderr

    joined = orchestrator("train", DIGITS, "-s", "epochs=4", "-s", "name=finished", "--run", "joined")
    assert joined.returncode == 0, joined.stdout + joined.stderr
    assert any(Path(found.session, "logs").rglob("*ray-train-*")), "it was not joined"
    theirs = session_home / "runs" / finished_run / "model" / "model.safetensors"
    assert (run_folder("joined") / "model" / "model.safetensors").read_bytes() == theirs.read_bytes()

    processes = family(found)
    ended = orchestrator("down")
    assert (ended.returncode, ended.stdout.split()) == (0, ["cluster", found.address, "has", "ended"])
    check_gone(found, processes)
    assert not list(open_home.parent.glob("ray-*/fork-*"))
    assert kept.down(force=False) is None


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_what_a_crash_leaves_is_removed_and_an_idle_one_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, new = kept.up(3600)
    assert new
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "other"))  # two homes at once
    second, new = kept.up(2)
    assert new and second.address != first.address
    others = family(second)
    wait_until(lambda: kept.find() is None, "the idle cluster to end")
    check_gone(second, others)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    processes = family(first)
    assert kept.find() == first
    next(process for process in processes if process.name() == "raylet").kill()
    wait_until(lambda: kept.find() is None, "the keeper to notice that the raylet died")
    check_gone(first, processes)


def test_what_is_left_of_a_killed_keeper_is_removed(home: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as agent:
        started = psutil.Process(agent.pid).create_time()
        (tmp_path / "session_1" / "sockets").mkdir(parents=True)
        (tmp_path / "session_latest").symlink_to("session_1")
        left = made_up(session=str(tmp_path / "session_1"), family=[[agent.pid, started], [os.getpid(), started - 9]])
        left.write()
        Lock(kept.keeping()).close()
        assert kept.find() is None
        assert agent.wait() == -signal.SIGKILL
    assert not kept.note().exists() and not list(tmp_path.glob("session_*"))


def made_up(**changes: object) -> Kept:
    found = Kept("127.0.0.1:1", "t", "/none", os.getpid(), 0.0, 60, 2, alike.code(), {}, [], [])
    return replace(found, **changes)  # type: ignore[arg-type]


def test_where_workers_could_not_be_given_the_same_it_is_not_joined(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = {"PYTHONPATH": "/a", "OMP_NUM_THREADS": "1", "TERM": "x", "RAY_AUTH_TOKEN": "y"}
    found = made_up(settings=alike.settings(here))
    assert found.differs(here | {"TERM": "z", "RAY_AUTH_TOKEN": "z"}) == []
    assert found.differs({"PYTHONPATH": "/b", "CUDA_VISIBLE_DEVICES": "0"}) == [
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "PYTHONPATH",
    ]
    assert found.differs(here | {"TORCH_COMPILE_DISABLE": "1", "FSSPEC_S3_ENDPOINT_URL": "http://x"}) == [
        "FSSPEC_S3_ENDPOINT_URL",
        "TORCH_COMPILE_DISABLE",
    ], "copies have imported what reads them"
    assert found.differs(here | {"PYTHONSTARTUP": "/x.py", "TORCH_HOME": "/x"}) == []
    other = "its code and packages are those of /other and /python, as they were then"
    assert made_up(code=["/other", "/python", "1"]).differs(here) == [other]
    assert made_up(code=[*alike.code()[:2], "1"]).differs(here), "a file was changed"
    with Lock(kept.keeping()):
        made_up(settings={"OMP_NUM_THREADS": "77"}).write()
        assert kept.note().stat().st_mode & 0o777 == 0o600
        assert kept.join() is None and "these differ: " in caplog.text and "OMP_NUM_THREADS" in caplog.text
        shown = local.cluster_here()
        assert isinstance(shown, Finding) and shown.level == "warning"
        made_up(settings=alike.settings(os.environ)).write()
        assert kept.join() is not None and kept.used()
        kept.leave()
        assert not kept.used()
    assert kept.join() is None and not kept.note().exists()


@pytest.mark.usefixtures("home")
def test_a_job_must_fit_the_cluster_that_it_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(allowed, "cpus", lambda: 8)
    with Lock(kept.keeping()):
        made_up(cpus=1, settings=alike.settings(session.ENVIRONMENT | session.ALONE | os.environ)).write()
        assert Cluster.here().cpus == 1, "up was started by taskset, say"
        assert fit(job("resources.workers=2"), Cluster.here()).problem
        monkeypatch.setenv("OMP_NUM_THREADS", "77")
        assert Cluster.here().cpus == 8, "it is not joined"
    assert Cluster.here().cpus == 8


def test_a_note_of_another_version_is_removed(home: Path) -> None:
    kept.note().write_text('{"address": "127.0.0.1:1"}')
    assert kept.find() is None and not kept.note().exists()


def test_a_note_outlives_the_folders_of_its_cluster(home: Path, tmp_path: Path) -> None:
    made_up(session=str(tmp_path / "emptied at a reboot" / "session_1")).write()
    assert kept.find() is None and not kept.note().exists()


def test_code_is_files_and_packages_however_python_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "jobs" / f"{name}.py").touch()
    monkeypatch.setattr(alike, "_ROOT", tmp_path)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    codes = [alike.code()]
    monkeypatch.setattr(sys, "executable", f"{sys.executable}3")
    (tmp_path / "jobs" / ".#a.py").symlink_to("somebody@host.1234:1")  # as Emacs locks a file
    assert alike.code() == codes[0]
    os.utime(tmp_path / "jobs" / "a.py", (1, 1))  # an older one is put in its place
    codes.append(alike.code())
    (tmp_path / "torch-2.13.0.dist-info").mkdir()
    codes.append(alike.code())
    assert len({digest for *_, digest in codes}) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_one_starts_while_another_ends_with_its_run_and_serves_on_without_its_dashboard() -> None:
    first, _ = kept.up(3600)
    with Command("train", DIGITS, "-s", "epochs=100000") as train:
        train.wait_for("epoch 2/")
        os.kill(first.pid, signal.SIGTERM)
        wait_until(lambda: not kept.note().exists(), "its end to begin")
        second, new = kept.up(3600)
        assert train.end() == 1
        assert "the cluster of orchestrator up has ended" in train.output and "RAY_AUTH_MODE" not in train.output
    assert new and second.pid != first.pid
    processes = family(second)
    with Lock(kept.users(), shared=True):  # as a command has it
        next(process for process in processes if "dashboard.py" in " ".join(process.cmdline())).kill()
        time.sleep(3)
        assert kept.find() == second
    wait_until(lambda: kept.find() is None, "its end once nobody uses it")
    check_gone(second, processes)

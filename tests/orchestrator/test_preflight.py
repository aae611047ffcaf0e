"""What is looked at before anything is sent: room, files, environment, and whether the cluster is open to everybody."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import SUBMITTED
from orchestrator.cli import cluster
from orchestrator.cli.console import commands
from orchestrator.cluster import follow, preflight, shipping
from orchestrator.cluster.client import Cluster, ClusterError, Job, Node, Room, address_of
from orchestrator.runs.standing import PREFIX
from tests.orchestrator.real import DIGITS, ROOT, job

BIG, SMALL = Node("big", "10.0.0.1", True, 8, 1), Node("small", "10.0.0.2", False, 3, 0)


def test_room_is_counted_node_by_node() -> None:
    room = Room((BIG, SMALL), grows=False)
    assert preflight.check_room(job("resources.workers=4", "resources.cpus_per_worker=2"), room) == []
    with pytest.raises(ValueError, match=r"each on one node, but there is room for 1: 1 on big \(8 CPUs, 1 GPUs\), 0"):
        preflight.check_room(job("resources.workers=2", "resources.cpus_per_worker=5.5"), Room((BIG, SMALL), False))
    with pytest.raises(ValueError, match=r"2 workers x 1 GPU = 2 GPUs, but there are 11 CPUs and 1 GPUs in the cl"):
        preflight.check_room(job("resources.workers=2", "resources.use_gpu=true"), room)


def test_an_autoscaler_may_start_more() -> None:
    [remark] = preflight.check_room(job("resources.workers=64"), Room((BIG,), grows=True))
    assert remark.startswith("64 workers x 1 CPUs = 64 CPUs, but there are 8 CPUs")
    assert remark.endswith("the autoscaler may start more nodes, and the job waits for them")


def test_elastic_jobs_need_room_for_their_fewest() -> None:
    elastic = job("resources.workers={min: 2, max: 16}")
    assert preflight.check_room(elastic, Room((SMALL,), grows=False)) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a job, its data, and what must not be sent."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("path,label\n")
    (tmp_path / "job.yaml").write_text((ROOT / DIGITS).read_text())
    for name in (".env", ".netrc", "server.key", "auth_token", "notes.tmp"):
        (tmp_path / name).write_text("hush")
    (tmp_path / ".gitignore").write_text("*.tmp\n")
    return tmp_path


def asked(folder: Path, *overrides: str, file: str = "job.yaml") -> preflight.Asked:
    return preflight.read(folder / file, overrides, folder, SUBMITTED)


def test_a_search_with_another_job_is_another_search(folder: Path) -> None:
    (folder / "search.yaml").write_text(
        "name: small\njob: job.yaml\nspace: {optimizer.lr: {kind: uniform, low: 0.01, high: 0.1}}\n"
        "budget: {trials: 2}\n"
    )
    before = asked(folder, file="search.yaml")
    assert asked(folder, file="search.yaml").digest == before.digest and before.need.endswith(" a trial")
    job = (folder / "job.yaml").read_text()
    (folder / "job.yaml").write_text(job.replace("batch_size: 64", "batch_size: 32"))
    assert asked(folder, file="search.yaml").digest != before.digest, "it would be said to be done already"


def test_what_is_sent_is_what_ray_packs_with_the_package_beside_it_and_no_secrets(folder: Path) -> None:
    shipment = shipping.pack(folder)
    assert {name for name in shipment.files if "/" not in name} == {".gitignore", "job.yaml"}
    assert [path.name for path in shipment.modules] == ["jobs", "orchestrator", "tuning"]
    assert "orchestrator/cli/jobs.py" in shipment.files
    from ray._private.runtime_env.packaging import create_package

    packed = folder.parent / f"{folder.name}.zip"
    create_package(str(folder), packed, include_gitignore=True, excludes=shipment.runtime_env({})["excludes"])
    shutil.unpack_archive(packed, folder.parent / "unpacked")
    found = {str(path.relative_to(folder.parent / "unpacked")) for path in (folder.parent / "unpacked").rglob("*")}
    assert {name for name in found if name != "data"} == {".gitignore", "job.yaml", "data/train.csv"}


def test_the_repository_sends_little() -> None:
    shipment = shipping.pack(ROOT)
    assert shipment.modules == ()
    assert shipment.bytes < 5 * 2**20
    assert {name.split("/")[0] for name in shipment.files}.isdisjoint({"tests", "docs", ".git", ".venv", "benchmarks"})


def test_files_that_a_spec_names_but_nobody_sends_are_refused(folder: Path) -> None:
    table = ("data={kind: table, train: data/train.csv, val_fraction: 0.1}",)
    fine = asked(folder, *table)
    assert preflight.check_paths(fine, shipping.pack(folder)) == []
    (folder / ".rayignore").write_text("data/\n")
    with pytest.raises(ValueError, match=r"data.train: data/train.csv is not sent, because an ignore file"):
        preflight.check_paths(fine, shipping.pack(folder))
    elsewhere = asked(folder, "data={kind: table, train: ../train.csv, val_fraction: 0.1}")
    with pytest.raises(ValueError, match=r"data.train: ../train.csv lies outside of the working directory"):
        preflight.check_paths(elsewhere, shipping.pack(folder))
    [remark] = preflight.check_paths(
        asked(folder, "data={kind: table, train: /shared/train.csv, val_fraction: 0.1}"), shipping.pack(folder)
    )
    assert remark == "data.train is /shared/train.csv, which all nodes must see: it is not sent"


def test_files_that_are_missing_here_are_missing_there(folder: Path) -> None:
    shipment = shipping.pack(folder)
    with pytest.raises(ValueError, match=r"data.train: data/trian.csv does not exist in the working directory"):
        preflight.check_paths(asked(folder, "data={kind: table, train: data/trian.csv, val_fraction: 0.1}"), shipment)
    with pytest.raises(ValueError, match=r"data.train: data/\*.parquet does not exist"):
        preflight.check_paths(asked(folder, "data={kind: parquet, train: data/*.parquet}"), shipment)
    assert preflight.check_paths(asked(folder, "data={kind: parquet, train: data/*.csv}"), shipment) == []
    with pytest.raises(ValueError, match=r"distillation.teacher.path: model does not exist"):
        preflight.check_paths(asked(folder, "distillation={teacher: {kind: model, path: model}}"), shipment)
    fetched = "data={kind: torchvision, name: CIFAR10, root: images, download: true}"
    assert preflight.check_paths(asked(folder, fetched), shipment) == []
    [remark] = preflight.check_paths(asked(folder, "checkpoint.storage=kept"), shipment)
    assert remark.startswith("checkpoint.storage is kept, in the job's copy of the working directory, which is deleted")


def test_a_search_is_told_from_a_job() -> None:
    search = preflight.read(ROOT / "tuning/searches/digits.yaml", (), ROOT, SUBMITTED)
    assert (search.kind.name, search.job.resources.workers) == ("search", 1)
    words = "python -m orchestrator search launch tuning/searches/digits.yaml --name n"
    assert search.entrypoint("n") == words
    plain = preflight.read(ROOT / DIGITS, ("epochs=3",), ROOT, SUBMITTED)
    assert plain.entrypoint("n") == f"python -m orchestrator train {DIGITS} -s epochs=3 --run n"


def test_the_command_that_resumes_is_the_one_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my jobs").mkdir()
    (tmp_path / "my jobs" / "job.yaml").write_text((ROOT / DIGITS).read_text())
    monkeypatch.chdir(tmp_path)
    sent: list[Mapping[str, str]] = []

    class Client:
        def submit_job(self, metadata: Mapping[str, str], **_: object) -> None:
            sent.append(metadata)

    def found(cluster: Cluster, id: str) -> Job:
        return Job(id, "FAILED", "", None, None, 1, "no room", sent[0])

    monkeypatch.setattr(Cluster, "reach", lambda address, insecure: Cluster(address))
    monkeypatch.setattr(Cluster, "room", lambda self: Room((BIG,), grows=False))
    monkeypatch.setattr(Cluster, "jobs", lambda self: [])
    monkeypatch.setattr(Cluster, "client", Client())
    monkeypatch.setattr(Cluster, "find_id", found)
    monkeypatch.setattr(Cluster, "find", found)
    monkeypatch.setattr(Cluster, "logs", lambda self, id: "")
    monkeypatch.setattr(Cluster, "guarded", False)
    app = commands()
    cluster.register(app, SUBMITTED)
    options = ["-s", "epochs=3", "--env", "NOTE=two words", "--working-dir", "my jobs", "--stop-wait", "90"]
    given = ["my jobs/job.yaml", *options, "--id", "n"]
    where = ["--address", "http://127.0.0.1:9", "--insecure"]
    assert CliRunner().invoke(app, ["submit", *given, *where]).exit_code == 0
    told = CliRunner().invoke(app, ["jobs", "status", "n", *where]).output
    words = shlex.split(told.partition("resume   ")[2])
    assert words[:3] == ["orchestrator", "submit", "my jobs/job.yaml"] and words[-3:] == where
    assert sorted(words[2:-3]) == sorted(given)
    assert CliRunner().invoke(app, words[1:]).exit_code == 0 and sent[0] == sent[1]


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN", "DB_PASSWORD", "WANDB_API_KEY", "GITHUB_PAT"]
)
def test_secrets_are_not_copied(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hush")
    with pytest.raises(ValueError, match=f"--env {name} looks like a secret"):
        shipping.variables([name], 60)


def test_the_environment_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    monkeypatch.setenv("KEYBOARD", "en")
    found = shipping.variables(["KEYBOARD", "NCCL_DEBUG=INFO"], 90).values
    assert found["MLFLOW_TRACKING_URI"] == "http://mlflow.example:5000"
    assert (found["KEYBOARD"], found["NCCL_DEBUG"], found["RAY_JOB_STOP_WAIT_TIME_S"]) == ("en", "INFO", "90")
    with pytest.raises(ValueError, match="it is not set here"):
        shipping.variables(["NO_SUCH_VARIABLE"], 60)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    told = shipping.variables([], 60)
    assert "MLFLOW_TRACKING_URI" not in told.values and "on this machine" in told.remarks[0]


@pytest.fixture
def open_server() -> Iterator[str]:
    """What a cluster without tokens looks like: it answers everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"ray_version": "2.60.0"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_open_cluster_is_refused_unless_asked_for(open_server: str) -> None:
    with pytest.raises(ClusterError, match="wants no token, so whoever reaches that port runs any code"):
        Cluster.reach(open_server)
    assert Cluster.reach(open_server, insecure=True).version == "2.60.0"


def test_the_address_is_the_one_given_or_rays_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert address_of(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert address_of(None) == "http://127.0.0.1:8265", "that is no job server"
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265/")
    assert address_of(None) == "http://head:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "api:1")
    assert address_of(None) == "http://api:1"
    assert address_of("https://ray.example") == "https://ray.example"


@pytest.mark.parametrize(("typed", "choice"), [("s\n", "s"), ("C\n", "c"), ("\n", "d"), ("x\n", "d")])
def test_an_interrupt_on_a_terminal_asks(typed: str, choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    with os.fdopen(theirs, encoding="utf-8") as stdin, os.fdopen(os.dup(theirs), "w", encoding="utf-8") as stderr:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stderr", stderr)
        assert follow.ask() == choice
        monkeypatch.undo()
    os.close(ours)


RUNNING = f'{PREFIX}{{"run": "a", "unit": "epochs", "done": 1}}'
FAILED = f'{PREFIX}{{"run": "a", "unit": "epochs", "status": "FAILED", "cause": "rank 0: no memory"}}'


@pytest.mark.parametrize(
    ("log", "code", "said"),
    [
        (f"epoch 1\n{FAILED}\nrun      a (FAILED: other)\n", 1, "rank 0: no memory"),
        (f"{RUNNING}\nKeyError: 'a'\n{RUNNING}\n", 1, "KeyError: 'a'"),
        ("Traceback\n  File x\nKeyError: 'a'\n", 1, "KeyError: 'a'"),
        ("/bin/sh: 1: python: not found\n", 127, "with its python first on the PATH"),
    ],
)
def test_the_first_cause_is_found(log: str, code: int, said: str) -> None:
    ended = Job("a", "FAILED", "python", 0.0, 1.0, code, "", {})
    assert said in follow.cause(ended, log)

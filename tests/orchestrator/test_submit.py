"""Jobs on a real cluster that wants a token: sent, followed, stopped, gone on with, joined with MLflow; no secrets."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from rich.console import Console

from orchestrator.cluster.client import Cluster
from orchestrator.cluster.follow import Ended, follow, summary
from orchestrator.cluster.jobs import rows
from tests.orchestrator.real import DIGITS, ROOT, mlflow_run, wait_until
from tests.orchestrator.remote import PLANTED, Remote, planted_in, remote

pytestmark = pytest.mark.slow

ONE = ("-s", "resources.workers=1")
EPOCHS = 300


@pytest.fixture(scope="module")
def there() -> Iterator[Remote]:
    with remote() as cluster:
        yield cluster


@pytest.fixture
def client(there: Remote, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(there.folder / "token"))
    return Cluster(there.address)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as on a terminal, though a shell that started the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(client: Cluster, id: str, answers: str) -> tuple[Ended, str]:
    """Follow a job, and interrupt that as often as there are answers, each time after some more lines."""
    told, left = io.StringIO(), iter(answers)

    def interrupt() -> None:
        for _ in answers:
            seen = told.getvalue().count("val/top1")
            wait_until(lambda seen=seen: told.getvalue().count("val/top1") > seen, "more lines")
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    ended = follow(client, id, Console(file=told, width=160), lambda: next(left))  # type: ignore[arg-type,return-value]
    thread.join()
    assert next(left, None) is None
    return ended, told.getvalue()


def test_a_job_is_watched_left_stopped_and_gone_on_with_by_the_same_command_and_no_secret_goes_with_it(
    there: Remote, client: Cluster, monkeypatch: pytest.MonkeyPatch, interruptible: None
) -> None:
    (there.folder / "token").chmod(0o644)
    words = ("submit", DIGITS, *ONE, "-s", f"epochs={EPOCHS}", "--id", "nightly", "--env", "LC_NOTE=hello")
    command = [sys.executable, "-m", "orchestrator", *words, "--follow"]
    planted = there.environment | PLANTED
    watcher = subprocess.Popen(command, cwd=ROOT, env=planted, stdout=subprocess.PIPE, text=True)
    try:
        assert watcher.stdout is not None
        seen = ""
        while not re.search(r"^epoch +2/.*val/top1", seen, re.MULTILINE):
            line = watcher.stdout.readline()
            assert line, seen
            seen += line
        watcher.send_signal(signal.SIGINT)
        seen += watcher.communicate()[0]
    finally:
        watcher.kill()
    assert (watcher.returncode, "nightly is RUNNING" in seen) == (130, True), "without a terminal it is left to itself"
    assert "MLFLOW_TRACKING_URI holds a password, so it is not sent" in seen
    assert stat.S_IMODE((there.folder / "token").stat().st_mode) == 0o600, "it is made private"

    running = there(*words)
    assert (running.returncode, "nightly is RUNNING already" in running.stdout) == (0, True)
    ended, _ = interrupted(client, "nightly", "cd")
    assert (ended.detached, ended.code, ended.job.state) == (True, 130, "RUNNING")
    stopped = there("jobs", "stop", "nightly")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    for line in ("job      nightly STOPPED", "a last checkpoint was written", "--id nightly"):
        assert line in stopped.stdout
    assert re.search(r"^run +nightly \(KILLED: stopped\)", client.logs("nightly"), re.MULTILINE)
    assert list((there.home / "runs" / "nightly" / "checkpoints").iterdir())

    rest = there(*words, "--follow", **PLANTED)
    assert rest.returncode == 0, rest.stdout + rest.stderr
    assert "nightly-2 submitted, after nightly, which is STOPPED" in rest.stdout
    assert re.search(rf"^run nightly is resumed; [1-9]\d* of {EPOCHS} epochs are recorded", rest.stdout, re.MULTILINE)
    assert rest.stdout.endswith("job      nightly-2 SUCCEEDED\n")
    again = there(*words)
    assert (again.returncode, "nightly-2 is SUCCEEDED already" in again.stdout) == (0, True)
    other = there(*words, "-s", "seed.init=1")
    assert (other.returncode, "take another id" in other.stderr) == (2, True)

    raw = requests.get(f"{there.address}/api/jobs/", headers={"Authorization": f"Bearer {there.token}"}).json()
    names = {name for job in raw for name in job["runtime_env"]["env_vars"]}
    allowed = {"RAY_JOB_STOP_WAIT_TIME_S", "ORCHESTRATOR_REVISION", "ORCHESTRATOR_DIRTY", "LC_NOTE"}
    assert {"RAY_JOB_STOP_WAIT_TIME_S", "LC_NOTE"} <= names <= allowed
    told = json.dumps(raw) + client.logs("nightly") + client.logs("nightly-2") + seen + rest.stdout + rest.stderr
    assert "planted-" not in told and there.token not in told
    assert planted_in(there.folder) == []
    assert there.token not in (there.home / "runs" / "nightly" / "journal.jsonl").read_text()

    listed = there("jobs", "list")  # from where MLflow is not seen
    assert re.search(rf"^nightly-2 +SUCCEEDED +{EPOCHS}/{EPOCHS} epochs +[\d.]+% ", listed.stdout, re.MULTILINE)
    assert "(by its log)" in there("jobs", "status", "nightly").stdout
    assert re.search(rf"^epoch +{EPOCHS}/", there("jobs", "logs", "nightly").stdout, re.MULTILINE)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(there.home))  # from where it is
    job = client.find("nightly")
    [row] = rows(client, [job])
    assert (row.status, row.progress, row.told_by) == ("FINISHED", f"{EPOCHS}/{EPOCHS} epochs", "MLflow")
    assert row.best.endswith("%")
    _, run = mlflow_run("nightly")
    begun = client.find_id("nightly").about["revision"]
    assert (run.data.tags["ray.submission_id"], run.data.tags["revision"]) == ("nightly-2", begun)


def test_a_job_that_fails_exits_1_with_its_first_cause(there: Remote) -> None:
    done = there("submit", DIGITS, *ONE, "-s", "data={kind: table, train: /nowhere.csv, val_fraction: 0.1}", "-f")
    assert done.returncode == 1, done.stdout
    assert "data.train is /nowhere.csv, which all nodes must see: it is not sent" in done.stdout
    assert re.search(r"^cause    .*/nowhere.csv", done.stdout, re.MULTILINE), done.stdout


def test_a_search_is_sent_from_a_folder_without_the_package_and_stopped(
    there: Remote, client: Cluster, tmp_path: Path, interruptible: None
) -> None:
    (tmp_path / "job.yaml").write_text((ROOT / DIGITS).read_text())
    (tmp_path / "search.yaml").write_text(
        "name: small\njob: job.yaml\nset: {resources.workers: 1, epochs: 2000}\n"
        "space: {optimizer.lr: {kind: loguniform, low: 0.01, high: 0.1}}\nsearcher: {kind: random}\n"
        "budget: {trials: 2}\nfinish: false\n"
    )
    done = there("submit", "search.yaml", "--id", "searching", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    ended, told = interrupted(client, "searching", "s")
    assert (ended.job.state, ended.code) == ("STOPPED", 130)
    assert "trial   0  epoch   1/2000  val/top1" in told
    assert "kept     no finished trial is repeated" in summary(client, ended.job, None)
    [row] = rows(client, [client.find("searching")])
    assert (row.progress, row.told_by, row.best[-1]) == ("0 trials", "its log", "%")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((DIGITS, "-s", "epocs=3"), "did you mean epochs?"),
        ((DIGITS, "-s", "resources.cpus_per_worker=3"), "2 workers x 3 CPUs = 6 CPUs, but there are 2 CPUs"),
        ((DIGITS, "--max-mb", "0.1"), "the largest of"),
        ((DIGITS, "--working-dir", "jobs/models"), "lies outside of"),
        ((DIGITS, "-s", "tracking.uri=http://me:hush@host"), "was given with a password"),
    ],
)
def test_what_cannot_work_never_leaves(there: Remote, client: Cluster, words: tuple[str, ...], said: str) -> None:
    before = len(client.jobs())
    done = there("submit", *words)
    assert done.returncode == 2
    assert said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "hush" not in done.stderr
    assert len(client.jobs()) == before


def test_a_wrong_token_and_no_cluster_are_told_with_their_cures(there: Remote, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("wrong")
    refused = there("jobs", "list", RAY_AUTH_TOKEN_PATH=str(wrong))
    assert refused.returncode == 1
    assert f"refuses the one from {wrong}" in refused.stderr
    absent = there("jobs", "list", "--address", "http://127.0.0.1:9")
    assert absent.returncode == 1
    assert "ssh -N -L" in absent.stderr


def test_the_doctor_looks_at_the_cluster_too(there: Remote) -> None:
    (there.folder / "token").chmod(0o600)
    done = there("doctor", "--address", there.address)
    assert re.search(r"^ok +cluster's token +wanted, and ours is taken", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^ok +cluster's Ray +2\.", done.stdout, re.MULTILINE)
    assert re.search(r"^ok +nodes +1 with 2 CPUs and 0 GPUs", done.stdout, re.MULTILINE)
    assert re.search(r"^ok +dashboard +on loopback", done.stdout, re.MULTILINE)
    assert done.returncode == ("problem" in done.stdout)

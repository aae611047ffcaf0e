"""Whatever is killed, the run goes on to the weights it would have had, and every point is in MLflow once."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch

from jobs.lock import holder
from orchestrator.execution import launch
from orchestrator.execution.answer import INTERRUPTED_TWICE
from orchestrator.execution.interrupts import TOGETHER_S
from orchestrator.home import home as home_folder
from orchestrator.home import run_folder
from orchestrator.tracking.journal import FILE, lock_path, read
from orchestrator.tracking.recorder import records_of
from orchestrator.tracking.state import State
from tests.orchestrator.real import (
    DIGITS,
    OWN,
    ROOT,
    Command,
    actors,
    damage,
    job,
    listening,
    mlflow_run,
    orchestrator,
    points,
    wait_until,
    weights,
)
from tests.strangers import answers, as_stranger, readable

pytestmark = pytest.mark.slow

EPOCHS = 40
Weights = Mapping[str, torch.Tensor]


@pytest.fixture(scope="module")
def undisturbed(cluster: str) -> Weights:
    """The weights of a run that nothing happens to."""
    result = launch.train(job(f"epochs={EPOCHS}", "name=undisturbed"))
    assert result.status == "FINISHED"
    return weights(result.run)


@pytest.fixture(scope="module")
def orphans() -> Iterator[list[psutil.Process]]:
    """Processes of drivers that were killed; they all end. Two agents of Ray's take a minute to notify its dead GCS, so
    that is seen to after the other tests."""
    found: list[psutil.Process] = []
    yield found
    assert len(found) > 5 and not psutil.wait_procs(found, 120)[1], "something was left behind"


ENDLESS = """
name: endless
job: jobs/recipes/digits.yaml
set: {resources.workers: 1}
space: {batch.label_smoothing.epsilon: {kind: uniform, low: 0, high: 0.2}}
budget: {trials: 1, epochs_per_trial: 100000}
finish: false
"""


def check_finished(name: str, expected: Weights) -> None:
    client, run = mlflow_run(name)
    assert run.info.status == "FINISHED"
    for metric in ("train/loss", "val/top1", "lr", "epoch_s"):
        assert [step for step, _ in points(client, run, metric)] == list(range(1, EPOCHS + 1)), metric
    assert [step for step, _ in points(client, run, "test/top1")] == [EPOCHS]
    final = weights(name)
    assert final.keys() == expected.keys()
    assert all(torch.equal(final[key], expected[key]) for key in expected)


def test_a_run_whose_driver_was_killed_is_told_synced_and_resumed(
    undisturbed: Weights, home: Path, warm: None, orphans: list[psutil.Process]
) -> None:
    with Command("train", DIGITS, "-s", f"epochs={EPOCHS}", "-s", "name=orphan", env=OWN) as first:
        name = first.wait_for(r"run (orphan-\S+)")[1]
        first.wait_for(r"epoch +3/")
        orphans += psutil.Process(first.process.pid).children(recursive=True)
        os.kill(first.process.pid, signal.SIGKILL)
        assert first.process.wait() == -signal.SIGKILL
    wait_until(lambda: holder(lock_path(run_folder(name) / FILE)) is None, "the recorder to go with its driver")
    listed = orchestrator("runs", "list")
    assert re.search(rf"^{name} +KILLED .* \d+/{EPOCHS} ", listed.stdout, re.MULTILINE), listed.stdout

    synced = orchestrator("sync")
    assert synced.returncode == 0, synced.stdout + synced.stderr
    assert f"{name}: " in synced.stdout and " 0 left" in synced.stdout
    client, run = mlflow_run(name)
    assert (run.info.status, run.data.tags["cause"]) == ("KILLED", "driver died")
    kept = records_of([entry.event for entry in read(run_folder(name) / FILE)])
    steps = [record.step for record in kept if record.name == "train/loss"]
    assert steps == list(range(1, len(steps) + 1)) and 3 <= len(steps) < EPOCHS
    assert [step for step, _ in points(client, run, "train/loss")] == steps

    damaged = damage(name)
    rest = orchestrator("train", "--resume", name)
    assert rest.returncode == 0, rest.stdout + rest.stderr
    warning = (
        rf"checkpoint \S+{damaged} is damaged: tensors.safetensors .* So training resumes after epoch (\d+) of {EPOCHS}"
    )
    said = re.search(warning, rest.stdout)
    per_epoch = 20  # updates; a checkpoint has its records, so the workers may have gone beyond what was recorded
    assert said and 2 <= int(said[1]) < int(damaged.removeprefix("step_")) / per_epoch, rest.stdout
    assert mlflow_run(name)[1].data.tags["warning"] == said[0]
    check_finished(name, undisturbed)
    assert orchestrator("sync").stdout == ""


def test_what_is_killed_in_mid_run_is_replaced(undisturbed: Weights) -> None:
    killed: list[psutil.Process] = []
    victims = [("RayTrainWorker", 3)]

    def kill_one(state: State) -> None:
        """A worker after epoch 3; once the run is beyond what it had then, the controller too."""
        if victims and any(record.step >= victims[0][1] for record in state.records):
            actor, _ = victims.pop()
            killed.append(actors(actor)[0])
            killed[-1].kill()
            if actor == "RayTrainWorker":
                victims.append(("GroupController", state.records[-1].step + 3))

    result = launch.train(job(f"epochs={EPOCHS}", "name=killed"), show=kill_one)
    assert len(killed) == 2 and not any(process.is_running() for process in killed)
    assert (result.status, result.ended_by, result.behind) == ("FINISHED", "epochs", 0)
    assert len(list((home_folder() / "ray").glob(f"{result.run}-*"))) == 2, (
        "a worker cost more than its group's workers"
    )
    check_finished(result.run, undisturbed)


NO_TOKEN = {"ray::RayTrainWorker": "**How workers reach each other.**"}
"""Processes with ports that want no token, and where SECURITY.md says so."""


def _look_around(top: Path, *roots: int) -> None:
    """What another user of the machine finds of a running job and of ``orchestrator ui``: nothing.

    Args:
        top: open to all; everything that the commands make is below it.
        roots: their processes.
    """
    ports = listening(*roots)
    assert all(alone for _, alone, _ in ports), "something listens on more than loopback"
    assert all(text in (ROOT / "SECURITY.md").read_text() for text in NO_TOKEN.values())

    def look() -> None:
        assert readable(top) == [top]
        with ThreadPoolExecutor(len(ports)) as pool:
            said = list(
                zip(pool.map(answers, [port for port, _, _ in ports]), [name for *_, name in ports], strict=True)
            )
        assert sum(line.startswith("HTTP/1.1 401") for line, _ in said) >= 2, "the UI and Ray's agent"
        assert {name for line, name in said if not line} <= NO_TOKEN.keys()
        assert not [each for each in said if each[0] and not re.match("HTTP/1.1 40[13] |gRPC", each[0])]

    as_stranger(look)


def test_a_run_whose_time_is_out_is_resumed_by_the_command_it_prints(
    undisturbed: Weights, home: Path, warm: None
) -> None:
    with Command("train", DIGITS, "-s", f"epochs={EPOCHS}", "-s", "name=interrupted", env=OWN) as first:
        first.wait_for(r"epoch +3/")
        assert len(actors("RayTrainWorker", first.process.pid)) == 2
        first.time_out()
        assert first.end() == 130, first.output
    name = first.wait_for(r"run +(interrupted-\S+) \(KILLED")[1]
    printed = first.wait_for(r"resume +orchestrator (train --resume \S+)")[1]
    orchestrator("sync")  # there were few seconds to send the end
    _, run = mlflow_run(name)
    assert (run.info.status, run.data.tags["ended_by"]) == ("KILLED", "stopped")
    steps = records_of([entry.event for entry in read(run_folder(name) / FILE)])[-1].step
    assert 3 <= steps < EPOCHS
    rest = orchestrator(*printed.split())
    assert rest.returncode == 0, rest.stdout + rest.stderr
    assert f"{name} is resumed; {steps} of {EPOCHS} epochs are recorded" in rest.stdout
    check_finished(name, undisturbed)
    again = orchestrator(*printed.split())
    assert again.returncode == 2
    assert "is FINISHED" in again.stderr


def test_others_find_nothing_of_a_run_and_a_second_interrupt_leaves_at_once(open_home: Path, tmp_path: Path) -> None:
    below = {"TMPDIR": str(open_home.parent), "RAY_TMPDIR": str(open_home.parent)}
    path = tmp_path / "search.yaml"
    path.write_text(ENDLESS, encoding="utf-8")
    with (
        Command("search", "launch", str(path), env=below) as search,
        Command("train", DIGITS, "-s", "epochs=100000", "-s", "name=hung", env=below) as command,
        Command("ui", "--port", "0", env=below) as ui,
    ):
        ui.wait_for("token=")
        for each in (command, search):
            each.wait_for(r"epoch +1/")
        _look_around(open_home.parent, command.process.pid, ui.process.pid, search.process.pid)
        search.interrupt()
        assert search.end() == 130, search.output
        workers = actors("RayTrainWorker", command.process.pid)
        assert len(workers) == 2
        for worker in workers:  # as if they hung: they will never answer the first interrupt
            worker.suspend()
        try:
            command.interrupt()
            command.wait_for("interrupt again to leave at once")
            time.sleep(TOGETHER_S)
            command.interrupt()
            assert command.end() == 130, command.output
        finally:
            gone, left = psutil.wait_procs(workers, 60)
            for worker in left:
                worker.kill()
        assert len(gone) == 2, "the workers outlived their run"
    name = command.wait_for(r"run +(hung-\S+) \(KILLED: interrupted twice\)")[1]
    assert "Traceback" not in command.output
    orchestrator("sync")  # there were few seconds to send the end
    _, run = mlflow_run(name)
    assert (run.info.status, run.data.tags["ended_by"]) == ("KILLED", INTERRUPTED_TWICE)

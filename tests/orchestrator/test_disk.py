"""A disk that is full: the run fails at once, names what could not be written and the cure, and is resumed."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.disk import DiskFullError
from orchestrator.execution.failures import kind_of, kind_of_text
from tests.orchestrator.real import DIGITS, ROOT, wait_until

SIZE = "24m"
_DISK = f'mount -t tmpfs -o size={SIZE} none "$ORCHESTRATOR_HOME" && echo mounted && exec sleep infinity'


def test_a_full_disk_is_a_kind_of_failure_wherever_it_shows() -> None:
    full = DiskFullError(errno.ENOSPC, "No space left on device", "/home/checkpoints/step_000000012")
    assert str(full) == "No space left on device: /home/checkpoints/step_000000012 could not be written"
    assert kind_of(full) == kind_of(OSError(errno.EDQUOT, "Disk quota exceeded")) == "disk"
    assert kind_of_text("sqlite3.OperationalError: database or disk is full") == "disk"


@pytest.fixture
def small_disk(home: Path) -> Iterator[list[str]]:
    """What to put before a command, so that its home is a disk of SIZE in a mount namespace of its own."""
    home.mkdir(parents=True)
    holder = subprocess.Popen(["unshare", "-Urm", "sh", "-c", _DISK], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "mounted\n", "needs namespaces that an ordinary user may make"
    yield ["nsenter", "--preserve-credentials", "-U", "-m", f"-w{ROOT}", "-t", str(holder.pid)]
    holder.kill()
    holder.wait()


def test_a_checkpoint_that_has_no_room_is_named_and_leaves_nothing(small_disk: list[str], home: Path) -> None:
    code = f"""
import torch
from jobs.checkpoint import State, Store
store = Store("{home}/checkpoints")
store.save(State(1, {{"w": torch.zeros(2**20)}}))
store.save(State(2, {{"w": torch.zeros(2**23)}}))
try:
    store.wait()
except OSError as error:
    print(type(error).__name__, error)
store.wait()
print(store.steps(), store.newest().step)
"""
    done = subprocess.run([*small_disk, sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == (
        f"DiskFullError No space left on device: {home}/checkpoints/step_000000002 could not be written\n[1] 1\n"
    ), done.stderr


@pytest.mark.slow
def test_a_run_on_a_full_disk_fails_at_once_and_is_resumed(small_disk: list[str], home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "COLUMNS")}
    command = [*small_disk, sys.executable, "-m", "orchestrator", "train"]
    job = [DIGITS, "-s", "epochs=24", "--run", "full"]
    output = home.parent / "output"
    with output.open("w") as file:
        first = subprocess.Popen([*command, *job], stdout=file, stderr=subprocess.STDOUT, env=environment)
    wait_until(lambda: "epoch    3/" in output.read_text() or first.poll() is not None, "epoch 3")
    filler = home / "filler"
    fill = f"dd if=/dev/zero of={filler} bs=4k; true"
    subprocess.run([*small_disk, "sh", "-c", fill], check=True, capture_output=True)
    assert first.wait(300) == 1, output.read_text()
    text = output.read_text()
    assert re.search(r"No space left on device: \S+/runs/full/checkpoints/step_\d+ could not be written", text), text
    assert "beginning again" not in text and "Traceback" not in text
    assert "resume   free some space, then: orchestrator train --resume full" in text
    subprocess.run([*small_disk, "rm", str(filler)], check=True)
    rest = subprocess.run([*command, "--resume", "full"], env=environment, capture_output=True, text=True)
    assert rest.returncode == 0 and "full (FINISHED" in rest.stdout, rest.stdout + rest.stderr

"""Who joins a kept cluster while it ends, or where it does not answer; without Ray."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.lock import Lock
from orchestrator.execution import alike, kept, session
from tests.orchestrator.real import ROOT, wait_until
from tests.orchestrator.test_kept import made_up

_SICK = """
from orchestrator.execution import kept, session
session.START_S = 3.0
try:
    session.start_ray()
except ConnectionError as error:
    assert "orchestrator down --force" in str(error), error
else:
    raise AssertionError("joined what is not there")
assert not kept.used(), "down would be refused as long as this process lives"
import os
os._exit(0)  # Ray waits for a minute
"""


@pytest.mark.usefixtures("home")
def test_who_cannot_join_does_not_hold_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with Lock(kept.keeping()):  # its GCS does not answer
        made_up(settings=alike.settings(session.ENVIRONMENT | session.ALONE | os.environ)).write()
        done = subprocess.run([sys.executable, "-c", _SICK], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


_KEEPER = """
import os, signal, sys, time
from jobs.lock import Lock
from orchestrator.execution import alike, kept
lock = Lock(kept.keeping(), wait_s=60)
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(float(sys.argv[1])), os._exit(0)))
print("ready", flush=True)
while True:
    time.sleep(1)
"""


@contextlib.contextmanager
def keeper(lasts_s: float, wait: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A process with the lock of a keeper, that takes so long to end."""
    words = [sys.executable, "-c", _KEEPER, str(lasts_s)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if wait:
            process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.usefixtures("home")
def test_nobody_joins_a_cluster_that_is_ending() -> None:
    with keeper(3) as first, ThreadPoolExecutor() as pool:
        made_up(pid=first.pid, settings=alike.settings(os.environ)).write()
        ending = pool.submit(kept.down, force=False)
        wait_until(lambda: kept.used(0), "its end to begin")
        assert kept.join() is None
        assert ending.result() is not None


@pytest.mark.usefixtures("home")
def test_the_end_of_one_cluster_does_not_wait_for_the_next() -> None:
    with keeper(0) as first, keeper(0, wait=False) as second:
        made_up(pid=first.pid).write()
        assert kept.down(force=False) is not None
        assert first.wait() == 0 and second.poll() is None
        assert second.stdout is not None and second.stdout.readline() == "ready\n"

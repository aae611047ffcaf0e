"""Which signals count, with real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from orchestrator.execution import interrupts
from orchestrator.execution.interrupts import current, orderly


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """Whatever this test run was started under."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_before_there_is_a_run_a_signal_is_ctrl_c(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), orderly():
        send(number)
    assert signal.getsignal(number) == before and not current().came


def test_signals_together_count_once_and_a_later_one_is_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    with orderly() as signals:
        signals.held = True
        send(signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        assert signals.came and not signals.twice
        monkeypatch.setattr(interrupts, "TOGETHER_S", 0.0)
        send(signal.SIGHUP)
        assert not signals.twice, "a terminal that is closed after Ctrl-C"
        send(signal.SIGTERM)
        assert signals.twice


def test_a_run_within_a_run_has_the_same_signals_in_any_thread() -> None:
    seen: list[object] = []

    def inner() -> None:
        with orderly() as same:
            seen.append(same)

    with orderly() as signals:
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()
        inner()
        assert seen == [signals, signals]
    thread = threading.Thread(target=inner)
    thread.start()
    thread.join()
    assert seen[2] is not signals and not current().came


NOHUP = """
import os, signal
from orchestrator.execution.interrupts import orderly
with orderly() as signals:
    signals.held = True
    os.kill(os.getpid(), signal.SIGHUP)
    assert not signals.came
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.came
"""


def test_nohup_holds() -> None:
    command = ["nohup", sys.executable, "-c", NOHUP]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

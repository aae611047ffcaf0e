"""Signals that end a run or a search: the first asks for an orderly end, a later one to leave at once.

SIGINT (Ctrl-C), SIGTERM (``kill``, ``timeout``, a scheduler) and SIGHUP (a closed terminal) mean the same. What comes
within two seconds of the first is the same wish: ``timeout`` signals the process and its group, a shell and the kernel
both say that a terminal was closed. Under ``nohup``, where SIGHUP is ignored from the start, it stays ignored.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

TOGETHER_S = 2.0
"""Signals that follow the first within this time count as one with it."""


class Interrupts:
    """What signals have asked for so far.

    Attributes:
        held: they are only noted; until then the first raises KeyboardInterrupt, as Python does.
        came: there was one.
        twice: there was a second one later on. A closed terminal is none: it may follow a Ctrl-C.
    """

    def __init__(self) -> None:
        self.held = self.came = self.twice = False
        self._first = 0.0
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take the signals, from the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if not (number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN):
                self._before[number] = signal.signal(number, self._take)

    def renew(self) -> None:
        """Take them again, if something else did meanwhile; nothing happens outside of the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in self._before:
                signal.signal(number, self._take)

    def restore(self) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """Ignore what comes from now on: all is done, and the process is about to end."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        self._before.clear()

    def _take(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.came:
            self.came, self._first = True, now
        elif now - self._first > TOGETHER_S and number != signal.SIGHUP:
            self.twice = True
        else:
            return
        if not self.held:
            raise KeyboardInterrupt


_active: Interrupts | None = None


def current() -> Interrupts:
    """Those that :func:`orderly` takes now; where it takes none, some that nothing happens to."""
    return _active or Interrupts()


@contextmanager
def orderly() -> Iterator[Interrupts]:
    """Take signals until this is closed. Nothing changes inside of another, so that a teacher's run is interrupted with
    the search that it is for, nor outside of the main thread, which alone gets signals."""
    global _active
    if _active is not None or threading.current_thread() is not threading.main_thread():
        yield current()
        return
    _active = Interrupts()
    try:
        _active.install()
        yield _active
    finally:
        _active.restore()
        _active = None

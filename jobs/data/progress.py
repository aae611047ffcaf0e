"""How far something that takes long has come, for whoever wants to show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Advance = Callable[[int], None]
Show = Callable[[str, int, int], Advance]
"""Called with what is done, how many images there are in all, and how many of them are done already."""


def _nothing(what: str, total: int, done: int) -> Advance:
    return lambda count: None


_show: ContextVar[Show] = ContextVar("show", default=_nothing)


def progress(what: str, total: int, done: int = 0) -> Advance:
    """Announce work on ``total`` images; the answer is called with how many more are done."""
    return _show.get()(what, total, done)


@contextmanager
def shown(show: Show) -> Iterator[None]:
    """Show all progress by ``show`` within this context."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)


def in_words(say: Callable[[str], None], every_s: float) -> Show:
    """Shows progress as sentences, the first one after ``every_s`` seconds."""

    def show(what: str, total: int, done: int) -> Advance:
        began = said = time.monotonic()
        start = done

        def advance(count: int) -> None:
            nonlocal done, said
            done, now = done + count, time.monotonic()
            if now - said < every_s:
                return
            said, left_s = now, (now - began) / max(1, done - start) * (total - done)
            left = f"{left_s:.0f} s" if left_s < 100 else f"{left_s / 60:.0f} minutes"
            say(f"{what}: {done:,} of {total:,}, {left} left")

        return advance

    return show

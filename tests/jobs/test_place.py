"""When ranks speak to each other."""

import time

from jobs.place import Agreement, Place


def spoken(start: int, updates: int, seconds: float) -> list[int]:
    """Steps of the exchanges, of updates that take so long each."""
    agreement, found = Agreement(Place(), start, seconds=0.02), []
    for step in range(start + 1, start + updates + 1):
        time.sleep(seconds)
        if agreement.due(step):
            agreement.exchange(step, 0)
            found.append(step)
    return found


def test_who_goes_on_late_speaks_as_often_as_who_begins() -> None:
    assert len(spoken(1_000_000, 20, 0.02)) >= 10
    assert len(spoken(0, 20, 0.02)) >= 10


def test_fast_updates_do_not_speak_at_each() -> None:
    assert len(spoken(0, 400, 0)) < 200

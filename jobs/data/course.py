"""When to fetch what a run is going to read, and when that is done: for what no machine holds at a time."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence
from itertools import count
from typing import TypeVar

T = TypeVar("T", bound=Hashable)

LAG = 4
"""Batches that may be under way: what was needed so many batches ago is not read any more."""
_BEYOND = 2
"""Passes that are looked at beyond the one that is read: an evaluation, and the next epoch."""


def course(passes: Iterator[Sequence[Sequence[T]]], room: int) -> Iterator[tuple[list[T], list[T]]]:
    """For every batch, in order: the things to be fetched from now on, and those that are done.

    Args:
        passes: of each pass over the data, the things that each of its batches needs. A pass should come back to a
            thing that it has left only soon.
        room: things that should be held at a time; what a batch needs is fetched at any rate.
    """
    needs: deque[tuple[int, int, T]] = deque()  # first and last batch
    starts, end = list[int](), 0
    ending: list[tuple[int, int, T]] = []
    held, ties = Counter[T](), count()
    for batch in count():
        done: list[T] = []
        while ending and ending[0][0] + LAG <= batch:
            thing = heapq.heappop(ending)[2]
            held[thing] -= 1
            if not held[thing]:
                done.append(thing)
        coming: list[T] = []
        while True:
            if not needs:
                if len(starts) > bisect_right(starts, batch) + _BEYOND or (batches := next(passes, None)) is None:
                    break
                needs.extend(_needs(batches, end))
                starts.append(end)
                end += len(batches)
            elif needs[0][0] <= batch + LAG or len(ending) < room:
                _, last, thing = needs.popleft()
                heapq.heappush(ending, (last, next(ties), thing))
                if not held[thing]:
                    coming.append(thing)
                held[thing] += 1
            else:
                break
        yield coming, done


def _needs(batches: Sequence[Sequence[T]], start: int) -> Iterator[tuple[int, int, T]]:
    """The first and the last batch that needs each thing, and the thing, in the order of the first ones."""
    firsts: dict[T, int] = {}
    lasts: dict[T, int] = {}
    for number, things in enumerate(batches, start):
        for thing in things:
            firsts.setdefault(thing, number)
            lasts[thing] = number
    for thing, first in firsts.items():
        yield first, lasts[thing], thing

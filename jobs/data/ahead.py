"""Work done ahead by threads, in order and never far ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from jobs.allowed import cpus as threads

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], most: int) -> Iterator[R]:
    """``work(item)`` of each item, in their order, done by as many threads as this process may use CPUs.

    Args:
        work: decodes an image, say; Pillow lets other threads run meanwhile.
        items: taken as they are needed, however many there are.
        most: how many results may wait to be taken.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads()) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

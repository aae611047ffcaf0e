"""Loader processes: they read, decode, cut and size the images of batches that the loop is going to need.

They live as long as the feed. Which pass over which split follows another is known (the *plan*), so there is no gap
between epochs, nor before an evaluation; if something else is asked for, what was made ahead is dropped. The processes
write into buffers that are made once and hold some two batches, whatever the number of processes.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from jobs.augment.resample import resized
from jobs.data.course import course
from jobs.data.decode import DataError
from jobs.data.sets import Stored
from jobs.data.staging import Staging

_CHUNK = 32
"""Most images that a process makes at a time."""
_BATCHES_AHEAD = 2
_DEADLINE_S = 600
"""A process that has made nothing for so long waits for a storage that does not answer."""


class Pass(NamedTuple):
    """One visit of a split: ``train`` from update ``first`` of an epoch on, or ``val`` or ``test`` after an epoch."""

    split: str
    epoch: int
    first: int = 0


class Wanted(NamedTuple):
    """A batch that is wanted.

    Attributes:
        visits: int64 ``(n,)``: which images, modulo the split's length.
        size: height and width that they get.
        crop_ratio: see ``jobs.data.decode.fit``.
    """

    visits: torch.Tensor
    size: int
    crop_ratio: float = 1.0


class _Task(NamedTuple):
    """Some rows of a batch, for one process. It is dropped where another generation is wanted by then.

    What is ``coming`` and ``done`` goes to the split's ``expect``.
    """

    generation: int
    buffer: int
    split: str
    visits: list[int]
    size: int
    crop_ratio: float
    boxes: list[list[int]] | None
    coming: Sequence[Any] = ()
    done: Sequence[Any] = ()


class _Issued(NamedTuple):
    """A task that has not been answered, the first of its rows in its batch, and whether that ends the pass."""

    task: _Task
    wanted: Wanted
    start: int
    ends: bool


class Feed:
    """Makes the batches of passes over streamed splits, in other processes or in this one.

    Args:
        splits: the streamed splits by name.
        channels: 1 or 3.
        wanted: the batches of a pass, in order.
        boxes: of a pass and visits, the part of each image that is resized, int64 ``(n, 4)``; None where that is the
            central square.
        plan: the pass over one of these splits that follows another unless the run ends; None if there is none.
        workers: processes; 0 makes the images in this one.
        part: images in a usual batch.
        size: the largest height and width that images get.
        device: where the batches go.
        room: of what is fetched before it is read (``Stored.coming``), how many are to be held; 0 where nothing is.
    """

    def __init__(
        self,
        splits: Mapping[str, Stored],
        channels: int,
        wanted: Callable[[Pass], Sequence[Wanted]],
        boxes: Callable[[Pass, torch.Tensor], torch.Tensor | None],
        plan: Callable[[Pass], Pass | None],
        workers: int,
        part: int,
        size: int,
        device: torch.device,
        room: int = 0,
    ) -> None:
        self._splits, self._held = splits, room
        self._channels, self._wanted, self._boxes, self._plan = channels, wanted, boxes, plan
        self._chunk = max(1, min(_CHUNK, math.ceil(part / max(1, workers))))
        depth = max(2, math.ceil(_BATCHES_AHEAD * part / (self._chunk * max(1, workers))))
        room = self._chunk * size * size * channels
        # tasks are answered in their order, and a new one is issued just before an answer is handed out
        self._buffers = [torch.empty(room, dtype=torch.uint8).share_memory_() for _ in range(depth * workers + 1)]
        self._buffer = itertools.cycle(range(len(self._buffers)))
        self._generation, self._live = 0, torch.zeros(1, dtype=torch.int64).share_memory_()
        self._upcoming: Iterator[_Issued] = iter(())
        self._issued: deque[_Issued | None] = deque()
        self._next: Pass | None = None
        self._staging = Staging(device)
        options: dict[str, Any] = {"prefetch_factor": depth, "timeout": _DEADLINE_S} if workers else {}
        self._loader: DataLoader[Any] = DataLoader(
            _Images(splits, channels, self._buffers, self._live),
            batch_size=None,
            sampler=_Endless(self._tasks),
            num_workers=workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),
            **options,
        )
        self._answers: Iterator[str] | None = None

    def batches(self, this: Pass) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of a pass: visits, int64 ``(n,)`` on the CPU; images, uint8 ``(n, size, size, channels)`` on the
        device. On a CPU the memory of the images is used again for the next batch.

        Raises:
            DataError: an image can no longer be read, or the storage does not answer.
        """
        if not self._wanted(this):
            return
        if self._next != this:
            self._generation += 1
            self._live[0] = self._generation
            self._upcoming = self._chain(this)
        self._next, ends = None, False
        while not ends:
            wanted, images, ends = self._batch()
            if ends:
                self._next = self._plan(this)
            yield wanted.visits, images

    def close(self) -> None:
        """End the processes."""
        self._answers = None

    def _chain(self, this: Pass | None) -> Iterator[_Issued]:
        """The tasks of this pass, then those of the next ones."""
        generation = self._generation
        ahead = course(self._coming(this), self._held) if self._held else itertools.repeat(([], []))
        while this is not None:
            every = self._wanted(this)
            for number, wanted in enumerate(every, 1):
                boxes = self._boxes(this, wanted.visits)
                coming, done = next(ahead)
                starts = range(0, len(wanted.visits), self._chunk)
                for which, start in enumerate(starts):
                    rows = slice(start, start + self._chunk)
                    task = _Task(
                        generation,
                        next(self._buffer),
                        this.split,
                        wanted.visits[rows].tolist(),
                        wanted.size,
                        wanted.crop_ratio,
                        None if boxes is None else boxes[rows].tolist(),
                        coming[which :: len(starts)],
                        done[which :: len(starts)],
                    )
                    yield _Issued(task, wanted, start, number == len(every))
            this = self._plan(this)

    def _coming(self, this: Pass | None) -> Iterator[list[Sequence[Hashable]]]:
        """What each batch of a pass needs to be fetched, and of the passes after it."""
        while this is not None:
            split = self._splits[this.split]
            yield [split.coming(wanted.visits.numpy() % len(split)) for wanted in self._wanted(this)]
            this = self._plan(this)

    def _tasks(self) -> Iterator[_Task | None]:
        """What the processes take; there is always something, and it is None where nothing is planned."""
        while True:
            issued = next(self._upcoming, None)
            self._issued.append(issued)
            yield issued and issued.task

    def _batch(self) -> tuple[Wanted, torch.Tensor, bool]:
        host: torch.Tensor | None = None
        while True:
            issued = self._answer()
            if issued is None:
                continue
            (task, wanted, start, ends), count = issued, len(issued.task.visits)
            shape = (wanted.size, wanted.size, self._channels)
            if host is None:
                host = self._staging.room((len(wanted.visits), *shape))
            rows = host[start : start + count]
            # by NumPy: threads of OpenMP would compete with the loader processes for the cores
            np.copyto(rows.numpy(), self._buffers[task.buffer][: rows.numel()].view(rows.shape).numpy())
            if start + count == len(wanted.visits):
                return wanted, self._staging.sent(host), ends

    def _answer(self) -> _Issued | None:
        """The oldest task, which is done now; None for one that is not wanted."""
        if self._answers is None:
            self._answers = iter(self._loader)
        try:
            trouble = next(self._answers)
        except RuntimeError as error:
            if "timed out" in str(error):
                raise DataError(
                    f"reading images: nothing came for {_DEADLINE_S} s; look whether the storage of the data answers"
                ) from error
            raise
        issued = self._issued.popleft()
        if issued is None or issued.task.generation != self._generation:
            return None
        if trouble:
            raise DataError(trouble)
        return issued


class _Endless:
    """The tasks as what a ``DataLoader`` calls a sampler."""

    def __init__(self, tasks: Callable[[], Iterator[_Task | None]]) -> None:
        self._tasks = tasks

    def __iter__(self) -> Iterator[_Task | None]:
        return self._tasks()


class _Images(Dataset[str]):
    """What a loader process does: a task's images into its buffer. The answer is empty, or what went wrong."""

    def __init__(
        self, splits: Mapping[str, Stored], channels: int, buffers: Sequence[torch.Tensor], live: torch.Tensor
    ) -> None:
        self._splits, self._channels, self._buffers, self._live = splits, channels, buffers, live

    def __getitem__(self, task: _Task | None) -> str:
        if task is None or task.generation != int(self._live):
            return ""
        split, size, count = self._splits[task.split], task.size, len(task.visits)
        rows = self._buffers[task.buffer][: count * size * size * self._channels].view(count, size, size, -1)
        array = rows.numpy()
        try:
            if task.coming or task.done:
                split.expect(task.coming, task.done)
            for row, visit in enumerate(task.visits):
                index = visit % len(split)
                if task.boxes is None:
                    array[row] = split.fitted(index, size, task.crop_ratio)
                else:
                    rows[row].copy_(resized(split.cut(index, task.boxes[row], size), (size, size), "bilinear"))
        except DataError as error:
            return str(error)
        return ""


def _as_it_is(answer: Any) -> Any:
    return answer

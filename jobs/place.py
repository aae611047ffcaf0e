"""Where a process runs: its rank, the world, its device, and the few collectives the loop needs."""

from __future__ import annotations

import contextlib
import inspect
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(nn.parallel.DistributedDataParallel).parameters
    else "broadcast_buffers"
)
"""DDP's argument that sends buffers before every forward pass; the old name warns since torch 2.13."""


@dataclass(frozen=True)
class Place:
    """Rank, world size and device of one process. Without a process group it is a world of one."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def current(cls, use_gpu: bool | None = None) -> Place:
        """The place of this process, from its process group or, without one, a world of its own.

        Args:
            use_gpu: True asks for CUDA, False refuses it, None takes it where there is one.
        """
        cuda = torch.cuda.is_available() if use_gpu is None else use_gpu
        local = int(os.environ.get("LOCAL_RANK", 0))
        device = torch.device("cuda", local % max(1, torch.cuda.device_count())) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(device)
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size(), device)
        return cls(device=device)

    @property
    def distributed(self) -> bool:
        """Whether there is anyone to talk to."""
        return self.world > 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model under DDP; itself in a world of one.

        Buffers are each rank's own, here and in training, which never reads BatchNorm's running statistics: they are
        averaged once an evaluation (:mod:`jobs.buffers`).
        """
        if not self.distributed:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        own = [buffer.clone() for buffer in model.buffers()]
        options: dict[str, Any] = {SYNC_BUFFERS: False}
        wrapped = nn.parallel.DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True, **options)
        for buffer, value in zip(model.buffers(), own, strict=True):  # newer torch sends rank 0's all the same, once
            buffer.copy_(value)
        return wrapped

    def first(self, tensor: torch.Tensor) -> torch.Tensor:
        """Rank 0's tensor on every rank, in place."""
        if self.distributed:
            dist.broadcast(tensor, 0)
        return tensor

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensors of all ranks, of equal shape, stacked by rank."""
        if not self.distributed:
            return tensor[None]
        rows = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(rows, tensor)
        return torch.stack(rows)

    def all(self, here: bool) -> bool:
        """Whether something holds on every rank."""
        return bool(self.gather(torch.tensor([int(here)], device=self.device)).all())

    def sum(self, *tensors: torch.Tensor) -> None:
        """Add up over all ranks, in place."""
        if self.distributed:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def broadcast(self, value: Any) -> Any:
        """Rank 0's object on every rank (small and rare: it is pickled)."""
        if not self.distributed:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, device=self.device if self.device.type == "cuda" else None)
        return box[0]


class Agreement:
    """Lets all ranks act on rank 0's word at the same step, without making any step wait.

    Args:
        place: of this process.
        step: updates done so far; a rate is of those done since.
        seconds: how far apart the exchanges are to be.

    Every few steps a one-word all-reduce is started in the background over gloo and read at the next such step, when it
    has long ended. Rank 0 picks the distance so that it is about half a second and sends it along, which keeps
    the cost out of sight for fast steps and the answer prompt for slow ones.
    """

    def __init__(self, place: Place, step: int = 0, seconds: float = 0.5) -> None:
        self.place, self.seconds = place, seconds
        self._group: Any = _beside() if place.distributed else None
        self._pending: tuple[Any, torch.Tensor] | None = None
        self._next, self._last = step, (step, time.monotonic())
        self._word = 0

    def due(self, step: int) -> bool:
        """Whether :meth:`exchange` does anything at this step; the same on all ranks."""
        return step >= self._next

    def exchange(self, step: int, word: int) -> int:
        """The largest word of any rank when the last exchange was started; the same on all ranks.

        Args:
            step: updates done; all ranks call at the same ones, those that are :meth:`due`.
            word: what this rank has to say; 0 is nothing.
        """
        distance = 1
        if self._pending is not None:
            work, words = self._pending
            if work is not None:
                work.wait()
            self._word, distance = int(words[0]), int(words[1])
        since = time.monotonic() - self._last[1]
        rate = (step - self._last[0]) / since if since > 0 else 0.0
        self._last = (step, time.monotonic())
        wish = min(1000, max(1, round(rate * self.seconds))) if self.place.rank == 0 else 0
        words = torch.tensor([word, wish])
        work = dist.all_reduce(words, dist.ReduceOp.MAX, group=self._group, async_op=True) if self._group else None
        self._pending = (work, words)
        self._next = step + distance
        return self._word

    def close(self) -> None:
        """Finish the exchange under way, so that the process group can be torn down."""
        if self._pending is not None and self._pending[0] is not None:
            self._pending[0].wait()
        self._pending = None


_background: tuple[Any, Any] | None = None
"""The default process group, and the one beside it."""


def _beside() -> Any:
    """A group over gloo beside the default one, for exchanges in the background: one for all runs of a process, since
    each takes threads and sockets, and ending one may end the process (docs/log.md)."""
    global _background
    if _background is None or _background[0] is not dist.group.WORLD:
        _background = (dist.group.WORLD, dist.new_group(backend="gloo"))
    return _background[1]


@contextlib.contextmanager
def process_group(use_gpu: bool | None = None) -> Iterator[None]:
    """The process group torchrun asks for by its environment; none where ``WORLD_SIZE`` is absent or 1."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    cuda = torch.cuda.is_available() if use_gpu is None else use_gpu
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield
    finally:
        global _background
        _background = None
        dist.destroy_process_group()

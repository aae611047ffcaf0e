"""A teacher's logits, kept on disk for all runs that show it the same inputs.

Sample order, augmentation and batch tricks are functions of (seed, epoch, step, part). So runs that differ only in what
comes after the input (learning rate, warmup, smoothing, temperature, weights) show a teacher the same tensors: the
first to arrive computes, the others read. What they read is what they would have computed, bit for bit.

``FOLDER/KEY/epoch_00000`` has a record for every part of every update of an epoch, at a place of its own: fp16 logits
``(N, K)``, then a CRC-32 of them, of the key and of the place. What does not match its checksum counts as absent: never
written, damaged, or cut short by a kill. Two who write the same record write the same bytes.
Records are read and written, not mapped into memory: a truncated file or a full disk is then an error instead of a
signal that kills the run, and machines that share a folder do not undo each other's records by whole pages.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from jobs.batch import At
from jobs.data.sets import Data
from jobs.lock import Lock, Locked
from jobs.logits.key import key_of

if TYPE_CHECKING:
    from jobs.models import LoadedModel
    from jobs.spec import JobSpec

log = logging.getLogger(__name__)

_SUM_BYTES = 4
_WAIT_S = 10.0
"""Longest wait for the folder's lock, which is held for milliseconds."""
_BEHIND = 64
"""Records that may wait to be written; while there are so many, further ones are not kept."""


def epoch_bytes(spec: JobSpec, samples: int, classes: int) -> int:
    """Bytes of the logits of an epoch over ``samples`` training images."""
    steps = spec.steps(samples)
    return steps.per_epoch * spec.parts * (2 * steps.part * classes + _SUM_BYTES)


class LogitCache:
    """All logits in one folder, whose files together stay below a number of bytes.

    What was used least recently makes room for what is new, unless a run holds it; where there is no room, an epoch is
    not kept. Where the folder cannot be used, runs compute.

    Args:
        folder: made where it is missing.
        max_bytes: the bound.

    Attributes:
        asked: logits of parts that runs of this process needed.
        read: those of them that were stored already.
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int) -> None:
        self.folder, self.max_bytes = Path(folder), max_bytes
        self.asked = self.read = 0
        self._stores: list[LogitStore] = []

    def open(self, spec: JobSpec, data: Data, teacher: LoadedModel, device: torch.device) -> LogitStore:
        """The store of a run; see :func:`key_of`. It is held until :meth:`close`."""
        steps = spec.steps(len(data.train))
        name, shape = key_of(spec, data, teacher, device), (steps.part, len(data.classes))
        store = LogitStore(self, name, shape, spec.parts, steps.per_epoch, device)
        self._stores.append(store)
        return store

    def close(self) -> None:
        """Finish what is being written, and release every store."""
        for store in self._stores:
            store.close()
        self._stores.clear()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone in the folder.

        Raises:
            OSError: the folder cannot be used, or the lock is held for long.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = Lock(self.folder / "lock", _WAIT_S)
        except Locked as error:
            raise TimeoutError(f"for {_WAIT_S:g} s, {error}") from None
        with lock:
            yield

    def reserve(self, path: Path, size: int) -> bool:
        """Give the file ``path`` its ``size``, deleting what is old where that is needed; False where it cannot be.

        Raises:
            OSError: see :meth:`locked`.
        """
        with self.locked():
            missing = size - (path.stat().st_size if path.exists() else 0)
            if missing <= 0:
                return True
            folders = [folder for folder in self.folder.iterdir() if folder.is_dir()]
            over = sum(map(_bytes, folders)) + missing - self.max_bytes
            old: list[Path] = []
            for folder in (
                sorted(folders, key=lambda folder: folder.stat().st_mtime_ns) if size <= self.max_bytes else ()
            ):
                if over > 0 and _idle(folder):
                    old.append(folder)
                    over -= _bytes(folder)
            if over > 0:
                return False
            for folder in old:
                shutil.rmtree(folder)
            path.parent.mkdir(exist_ok=True)
            with open(path, "ab") as file:
                file.truncate(size)
            return True


class LogitStore:
    """The logits of one teacher for one sequence of inputs.

    Args:
        cache: where they are kept.
        name: of the sequence, see :func:`key_of`.
        shape: of the logits of a part, ``(N, K)``.
        parts: of an update.
        updates: of an epoch.
        device: of the run.
        background: write in a thread of its own, so that nothing waits for the device; None does so on CUDA.
    """

    def __init__(
        self,
        cache: LogitCache,
        name: str,
        shape: tuple[int, int],
        parts: int,
        updates: int,
        device: torch.device,
        background: bool | None = None,
    ) -> None:
        self.cache, self.name, self.shape = cache, name, shape
        self.parts, self.updates, self.device = parts, updates, device
        self._record = 2 * shape[0] * shape[1] + _SUM_BYTES
        self._cuda = device.type == "cuda"
        wanted = self._cuda if background is None else background
        self._pool = ThreadPoolExecutor(1, "logits") if wanted else None
        self._room = threading.Semaphore(_BEHIND)
        self._epoch, self._file, self._broken = -1, -1, False
        self._hold: Lock | None = None
        try:
            with cache.locked():  # so that nobody deletes it before it is held
                self.folder.mkdir(exist_ok=True)
                self._hold = Lock(self.folder / "lock", shared=True)
                os.utime(self.folder)
        except OSError as error:
            self._give_up(error)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.cache.folder / self.name

    def read(self, at: At) -> torch.Tensor | None:
        """The logits at a place of the run, fp16 ``(N, K)`` on the device; None where they are not stored."""
        self.cache.asked += 1
        try:
            if not self._open(at.epoch):
                return None
            buffer = torch.empty(self._record, dtype=torch.uint8, pin_memory=self._cuda)
            data = buffer.numpy().data
            if os.preadv(self._file, [data], self._place(at)) != self._record:
                return None
        except OSError as error:
            self._give_up(error)
            return None
        if int.from_bytes(data[-_SUM_BYTES:], "little") != self._sum(data[:-_SUM_BYTES], at):
            return None
        self.cache.read += 1
        logits = buffer[:-_SUM_BYTES].view(torch.float16).view(self.shape)
        return logits.to(self.device, non_blocking=True)

    def write(self, at: At, logits: torch.Tensor) -> None:
        """Store logits: fp16 ``(N, K)`` on the device."""
        assert logits.shape == self.shape, f"{tuple(logits.shape)} instead of {self.shape}"
        try:
            if not self._open(at.epoch):
                return
        except OSError as error:
            self._give_up(error)
            return
        if self._pool is None:
            self._write(self._file, at, logits.contiguous())
        elif self._room.acquire(blocking=False):
            copy = torch.empty(self.shape, dtype=torch.float16, pin_memory=self._cuda)
            copy.copy_(logits, non_blocking=True)
            copied = torch.cuda.Event(blocking=True) if self._cuda else None
            if copied is not None:
                copied.record()
            self._pool.submit(self._write_later, self._file, at, copy, copied)

    def close(self) -> None:
        """Finish what is being written, and let others delete the files; a second call does nothing."""
        self._leave()
        if self._pool is not None:
            self._pool.shutdown()
        if self._hold is not None:
            with contextlib.suppress(OSError):
                os.utime(self.folder)
            self._hold.close()
            self._hold = None

    def _open(self, epoch: int) -> bool:
        """Open the file of an epoch; False where it is not kept."""
        if epoch != self._epoch and not self._broken:
            self._leave()
            self._epoch = epoch
            path = self.folder / f"epoch_{epoch:05d}"
            if self.cache.reserve(path, self.updates * self.parts * self._record):
                self._file = os.open(path, os.O_RDWR)
        return self._file >= 0 and not self._broken

    def _leave(self) -> None:
        """Close the open file once everything for it is written."""
        if self._file >= 0:
            if self._pool is None:
                os.close(self._file)
            else:
                self._pool.submit(os.close, self._file)
        self._file, self._epoch = -1, -1

    def _place(self, at: At) -> int:
        return ((at.step - at.epoch * self.updates) * self.parts + at.part) * self._record

    def _sum(self, data: Any, at: At) -> int:
        """Checksum of logits at their place; never 0, which a file has where nothing was written."""
        return zlib.crc32(data, zlib.crc32(f"{self.name} {at.step} {at.part}".encode())) or 1

    def _write_later(self, file: int, at: At, logits: torch.Tensor, copied: torch.cuda.Event | None) -> None:
        if copied is not None:
            copied.synchronize()
        self._write(file, at, logits)
        self._room.release()

    def _write(self, file: int, at: At, logits: torch.Tensor) -> None:
        data = logits.view(torch.uint8).view(-1).numpy().data
        try:
            os.pwritev(file, [data, self._sum(data, at).to_bytes(_SUM_BYTES, "little")], self._place(at))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if not self._broken:
            log.warning("a teacher's logits are not kept: %s", error)
        self._broken = True


def _idle(folder: Path) -> bool:
    """Whether no run holds the logits in there."""
    try:
        Lock(folder / "lock", wait_s=0).close()
    except Locked:
        return False
    return True


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("epoch_*"))

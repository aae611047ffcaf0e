"""One pass over every image before training: what cannot be read, what the images are, and their pixels where asked.

So N is fixed and exact, and what a run saw has a digest. The findings, and pixels decoded for memory, are kept under
``ORCHESTRATOR_HOME/cache`` (``scan/*.npz``, ``decoded/*.npy``), keyed by the store's stamp and the way of decoding.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import PIL
from numpy.typing import NDArray

from jobs.data.ahead import threads
from jobs.data.cache import atomic, cached, key
from jobs.data.decode import Pixels, UnreadableError, fit
from jobs.data.progress import progress
from jobs.data.store import Store
from jobs.lock import LONG_S, Lock

logger = logging.getLogger(__name__)

_FORMAT = 3
"""Raise it when a change here or in ``decode`` makes earlier findings wrong."""
_CHUNK_BYTES = 4 * 2**20
_PART = 4096
"""Images whose findings are kept at a time, while millions are read."""
_SMALL_PIXELS = 96 * 96


@dataclass(frozen=True)
class Scan:
    """What was found.

    Attributes:
        errors: reasons, by index, of the images that cannot be read; the rows below mean nothing there.
        shapes: int32 ``(N, 3)``: height, width and channels of the images as stored.
        hashes: uint8 ``(N, 16)``: what identifies the image's content.
        sums: uint64 ``(N, 2, channels)``: sum of the sized image's pixel values, and of their squares.
        pixels: uint8 ``(N, size, size, channels)``, perhaps read-only; None where not asked for.
    """

    errors: dict[int, str]
    shapes: NDArray[np.int32]
    hashes: NDArray[np.uint8]
    sums: NDArray[np.uint64]
    pixels: Pixels | None

    @property
    def good(self) -> NDArray[np.int64]:
        """Indices of the readable images, in order."""
        good = np.ones(len(self.shapes), bool)
        good[list(self.errors)] = False
        return np.flatnonzero(good)

    def part(self, first: int, last: int) -> Scan:
        """The findings of some images, without their pixels."""
        errors = {index - first: reason for index, reason in self.errors.items() if first <= index < last}
        return Scan(errors, self.shapes[first:last], self.hashes[first:last], self.sums[first:last], None)

    def take(self, part: Scan, first: int) -> None:
        """Put the findings of some images into their place."""
        rows = slice(first, first + len(part.shapes))
        self.errors.update({first + index: reason for index, reason in part.errors.items()})
        self.shapes[rows], self.hashes[rows], self.sums[rows] = part.shapes, part.hashes, part.sums


def scan(store: Store, size: int, channels: int, keep: bool, crop_ratio: float = 1.0) -> Scan:
    """Read, decode, convert and size every image once, or take what an earlier pass over the same files found.

    Args:
        store: the images.
        size: height and width in pixels that the model is fed.
        channels: 1 or 3.
        keep: whether the pixels are wanted.
        crop_ratio: see ``jobs.data.decode.fit``.
    """
    if store.stamp is None:
        return _read(store, size, channels, keep, crop_ratio, None)[0]
    how = size, channels, crop_ratio, store.exif_orientation
    name = key(_FORMAT, PIL.__version__, type(store).__name__, store.stamp, len(store), *how)
    if (known := _recall(name, keep)) is not None:
        return known
    with _alone(name):
        if (known := _recall(name, keep)) is not None:
            return known
        parts = None if keep else cached("scan", name, ".parts")
        found, passing = _read(store, size, channels, keep, crop_ratio, parts)
        if passing:
            return found
        found = _remember(name, found)
        if parts is not None:
            shutil.rmtree(parts, ignore_errors=True)
        return found


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Of several processes that want the same, one reads and the others wait, where the cache can be written."""
    path = cached("scan", name, ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(path, LONG_S)
    except OSError:
        yield
        return
    with lock:
        yield


def _read(
    store: Store, size: int, channels: int, keep: bool, crop_ratio: float, parts: Path | None
) -> tuple[Scan, bool]:
    """The pass itself, and whether a storage failed at some image, which may recover without any file changing.

    Args:
        parts: a folder where findings are kept on the way, so that a pass that was cut short is continued; or None.
    """
    store.here()
    logger.info("reading each of %d images once", len(store))
    count = len(store)
    found = Scan(
        errors={},
        shapes=np.zeros((count, 3), np.int32),
        hashes=np.zeros((count, 16), np.uint8),
        sums=np.zeros((count, 2, channels), np.uint64),
        pixels=np.zeros((count, size, size, channels), np.uint8) if keep else None,
    )
    step = max(1, min(256, _CHUNK_BYTES // (size * size * channels)))
    passing: list[int] = []

    def chunk(start: int, stop: int) -> int:
        sized = np.zeros((stop - start, size, size, channels), np.uint8)
        for index in range(start, stop):
            try:
                image, identity = store.decoded(index, channels)
                found.shapes[index] = *image.pixels.shape[:2], image.native_channels
                sized[index - start] = fit(image.pixels, size, crop_ratio)
            except UnreadableError as error:
                found.errors[index] = str(error)
                passing.extend([index] if error.passing else [])
                continue
            found.hashes[index] = np.frombuffer(hashlib.blake2b(identity, digest_size=16).digest(), np.uint8)
        for channel in range(channels):
            plane = sized[..., channel].reshape(stop - start, -1).astype(np.uint32)
            found.sums[start:stop, 0, channel] = plane.sum(1, dtype=np.uint64)
            found.sums[start:stop, 1, channel] = (plane * plane).sum(1, dtype=np.uint64)
        if found.pixels is not None:
            found.pixels[start:stop] = sized
        return stop - start

    with ThreadPoolExecutor(1 if _small(store) else threads()) as pool:
        advance = progress("reading images", count)
        for first in range(0, count, _PART):
            last = min(first + _PART, count)
            if parts is not None and (known := _load(parts / f"{first}.npz")) is not None:
                found.take(known, first)
                advance(last - first)
                continue
            starts = range(first, last, step)
            stops = [min(start + step, last) for start in starts]
            for done in pool.map(chunk, starts, stops):  # raises what a thread raised
                advance(done)
            if parts is not None and not passing and last < count:
                with suppress(OSError):  # a cache: without it all is read again
                    _save(parts / f"{first}.npz", found.part(first, last))
    return found, bool(passing)


def _small(store: Store) -> bool:
    """Whether the first image is so small that Pillow spends its time in Python, where threads wait for each other."""
    try:
        image, _ = store.load(0)
    except (UnreadableError, IndexError):
        return False
    return image.width * image.height <= _SMALL_PIXELS


def _load(path: Path, pixels: Pixels | None = None) -> Scan | None:
    """Findings that were kept; None where there are none, or none that are whole."""
    try:
        with np.load(path, allow_pickle=False) as file:
            errors = {int(index): reason for index, reason in json.loads(str(file["errors"])).items()}
            return Scan(errors, file["shapes"], file["hashes"], file["sums"], pixels)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _save(path: Path, found: Scan) -> None:
    with atomic(path) as beside:
        np.savez(beside, errors=json.dumps(found.errors), shapes=found.shapes, hashes=found.hashes, sums=found.sums)


def _recall(name: str, keep: bool) -> Scan | None:
    """What an earlier pass left; None where it left nothing, or nothing whole."""
    kept: Any = None
    try:
        if keep:
            kept = np.asarray(np.load(cached("decoded", name, ".npy"), mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return None
    return _load(cached("scan", name, ".npz"), kept)


def _remember(name: str, found: Scan) -> Scan:
    """Keep the findings; the result's pixels are then a map of the file, so that memory holds them once only."""
    try:
        if found.pixels is not None:
            with atomic(cached("decoded", name, ".npy")) as path:
                np.save(path, found.pixels, allow_pickle=False)
        _save(cached("scan", name, ".npz"), found)
    except OSError as error:
        logger.warning("cannot keep what was found about the data, so it is read again next time: %s", error)
        return found
    return _recall(name, found.pixels is not None) or found

"""One pass over every image before training: what cannot be read, what the images are, and their pixels where asked.

So N is fixed and exact, and what a run saw has a digest. The findings, and pixels decoded for memory, are kept under
``ORCHESTRATOR_HOME/cache`` (``scan/*.npz``, ``decoded/*.npy``), keyed by the store's stamp and the way of decoding.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
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
        return _read(store, size, channels, keep, crop_ratio)[0]
    how = size, channels, crop_ratio, store.exif_orientation
    name = key(_FORMAT, PIL.__version__, type(store).__name__, store.stamp, len(store), *how)
    if (known := _recall(name, keep)) is not None:
        return known
    with _alone(name):
        if (known := _recall(name, keep)) is not None:
            return known
        found, passing = _read(store, size, channels, keep, crop_ratio)
        return found if passing else _remember(name, found)


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


def _read(store: Store, size: int, channels: int, keep: bool, crop_ratio: float) -> tuple[Scan, bool]:
    """The pass itself, and whether a storage failed at some image, which may recover without any file changing."""
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

    def chunk(start: int) -> int:
        stop = min(start + step, count)
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
        for done in pool.map(chunk, range(0, count, step)):  # raises what a thread raised
            advance(done)
    return found, bool(passing)


def _small(store: Store) -> bool:
    """Whether the first image is so small that Pillow spends its time in Python, where threads wait for each other."""
    try:
        image, _ = store.load(0)
    except (UnreadableError, IndexError):
        return False
    return image.width * image.height <= _SMALL_PIXELS


def _recall(name: str, keep: bool) -> Scan | None:
    """What an earlier pass left; None where it left nothing, or nothing whole."""
    try:
        with np.load(cached("scan", name, ".npz"), allow_pickle=False) as file:
            errors = {int(index): reason for index, reason in json.loads(str(file["errors"])).items()}
            kept: Any = np.load(cached("decoded", name, ".npy"), mmap_mode="r", allow_pickle=False) if keep else None
            return Scan(
                errors, file["shapes"], file["hashes"], file["sums"], None if kept is None else np.asarray(kept)
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _remember(name: str, found: Scan) -> Scan:
    """Keep the findings; the result's pixels are then a map of the file, so that memory holds them once only."""
    try:
        if found.pixels is not None:
            with atomic(cached("decoded", name, ".npy")) as path:
                np.save(path, found.pixels, allow_pickle=False)
        with atomic(cached("scan", name, ".npz")) as path:
            np.savez(path, errors=json.dumps(found.errors), shapes=found.shapes, hashes=found.hashes, sums=found.sums)
    except OSError as error:
        logger.warning("cannot keep what was found about the data, so it is read again next time: %s", error)
        return found
    return _recall(name, found.pixels is not None) or found

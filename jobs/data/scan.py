"""One pass over every image before training: what cannot be read, what the images are, and their pixels where asked.

So N is fixed and exact, and what a run saw has a digest. ``jobs.data.found`` keeps what was found.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import product, repeat
from pathlib import Path

import numpy as np

from jobs.allowed import cpus as threads
from jobs.data import jpeg
from jobs.data.decode import Pixels, UnreadableError, fit
from jobs.data.found import Scan, known, load, save
from jobs.data.passing import Passing
from jobs.data.progress import progress
from jobs.data.store import Store

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 4 * 2**20
_PART = 4096
"""Images whose findings are kept at a time, while millions are read."""
_SMALL_PIXELS = 96 * 96
_HEADERS, _WAITING = 64, 8
"""Headers that a thread reads at a time, and threads, which wait for the storage most of the time."""


def scan(
    store: Store,
    size: int,
    channels: int,
    keep: bool,
    crop_ratio: float = 1.0,
    passing: Callable[[], Sequence[Passing]] = tuple,
    sums: bool = True,
) -> Scan:
    """Read, decode, convert and size every image once, or take what an earlier pass over the same files found.

    Where all is known of the images without reading them (``Store.known``), that is taken, and they are read for their
    pixels only. Where neither pixels nor sums are wanted, images are not sized, and a JPEG is decoded as small as it
    may be.

    Args:
        store: the images.
        size: height and width in pixels that the model is fed.
        channels: 1 or 3.
        keep: whether the pixels are wanted.
        crop_ratio: see ``jobs.data.decode.fit``.
        passing: called where images are decoded: prepared pixels that are made at the same time.
        sums: whether the sums are wanted.
    """
    sized = keep or sums

    def read(parts: Path | None) -> tuple[Scan, bool]:
        store.here()
        count = len(store)
        kept = np.zeros((count, size, size, channels), np.uint8) if keep else None
        found = Scan.empty(count, channels if sized else 0, kept)
        step = max(1, min(256, _CHUNK_BYTES // (size * size * channels)))
        with ExitStack() as stack:
            made = [stack.enter_context(each.open()) for each in passing()]

            def look(start: int, stop: int, found: Scan) -> list[int]:
                fitted = np.zeros((stop - start, size, size, channels), np.uint8) if sized else None
                lost = _decode(store, start, stop, found, channels, crop_ratio, fitted, made)
                if fitted is not None:
                    _sum(start, stop, found, fitted)
                return lost

            what = "reading and preparing" if made else "reading"
            failed = _pass(what, store, found, look, step, 1 if _small(store) else threads(), parts)
            for each, index in product(made, () if failed else found.errors):  # of earlier attempts too
                each.lose(index)
        return found, failed

    told = store.known(channels)
    if told is not None and not keep:
        return told
    how = size, channels, crop_ratio
    found = known(store, how, keep, read) if sized else known(store, ("sound", channels), keep, read, how)
    return found if told is None else replace(told, errors=told.errors | found.errors, pixels=found.pixels)


def headers(store: Store) -> Scan:
    """Read the beginning of every image, which says its shape, or take what an earlier pass over the same files found.

    Args:
        store: the images.
    """

    def look(start: int, stop: int, found: Scan) -> list[int]:
        passing = []
        for index in range(start, stop):
            try:
                found.shapes[index] = store.header(index)
            except UnreadableError as error:
                found.errors[index] = str(error)
                passing += [index] if error.passing else []
        return passing

    def read(parts: Path | None) -> tuple[Scan, bool]:
        store.here()
        found = Scan.empty(len(store), 0, hashed=False)
        return found, _pass("looking at", store, found, look, _HEADERS, _WAITING, parts)

    return known(store, ("headers",), False, read)


def _pass(
    what: str,
    store: Store,
    found: Scan,
    look: Callable[[int, int, Scan], list[int]],
    step: int,
    at_once: int,
    parts: Path | None,
) -> bool:
    """The pass itself; whether a storage failed at some image.

    Args:
        what: is done to the images, for people.
        store: the images.
        found: is filled.
        look: fills the rows of some images, and returns those at which the storage failed.
        step: images that it gets at a time.
        at_once: threads.
        parts: a folder where findings are kept on the way, so that a pass that was cut short is continued; or None.
    """
    logger.info("%s each of %d images once", what, len(store))
    count, passing = len(store), False
    with ThreadPoolExecutor(at_once) as pool:
        advance = progress(f"{what} images", count)
        for first in range(0, count, _PART):
            last = min(first + _PART, count)
            if parts is not None and (earlier := load(parts / f"{first}.npz")) is not None:
                found.take(earlier, first)
                advance(last - first)
                continue
            starts = range(first, last, step)
            stops = [min(start + step, last) for start in starts]
            for start, stop, lost in zip(starts, stops, pool.map(look, starts, stops, repeat(found)), strict=True):
                passing |= bool(lost)  # map raises what a thread raised
                advance(stop - start)
            if parts is not None and not passing and last < count:
                with suppress(OSError):  # a cache: without it all is read again
                    save(parts / f"{first}.npz", found.part(first, last))
    return passing


def _decode(
    store: Store,
    start: int,
    stop: int,
    found: Scan,
    channels: int,
    crop_ratio: float,
    fitted: Pixels | None,
    made: Sequence[Passing],
) -> list[int]:
    """Fill the rows of some images, and ``fitted`` if it is given; returns those at which the storage failed."""
    passing = []
    prepared = {index: (each, row) for each in made for index, row in each.rows(start, stop).items()}
    for index in range(start, stop):
        into, row = prepared.get(index, (None, 0))
        try:
            if fitted is None:
                smaller, identity = store.decoded(index, channels, into.most(row) if into else jpeg.LEAST)
            else:
                image, smaller, identity = store.twice(index, channels, into.most(row) if into else 1)
                fitted[index - start] = fit(image.pixels, fitted.shape[1], crop_ratio)
        except UnreadableError as error:
            found.errors[index] = str(error)
            if error.passing:
                passing.append(index)
            else:
                for each in made:
                    each.lose(index)
            continue
        if into:
            into.put(row, smaller.pixels, smaller.shape)
        found.shapes[index] = *smaller.shape, smaller.native_channels
        found.hashes[index] = np.frombuffer(hashlib.blake2b(identity, digest_size=16).digest(), np.uint8)
    for each in made:
        if not passing:
            each.note(start, stop)
    return passing


def _sum(start: int, stop: int, found: Scan, fitted: Pixels) -> None:
    for channel in range(fitted.shape[3]):
        plane = fitted[..., channel].reshape(stop - start, -1).astype(np.uint32)
        found.sums[start:stop, 0, channel] = plane.sum(1, dtype=np.uint64)
        found.sums[start:stop, 1, channel] = (plane * plane).sum(1, dtype=np.uint64)
    if found.pixels is not None:
        found.pixels[start:stop] = fitted


def _small(store: Store) -> bool:
    """Whether the first image is so small that Pillow spends its time in Python, where threads wait for each other."""
    try:
        image, _ = store.load(0)
    except (UnreadableError, IndexError):
        return False
    return image.width * image.height <= _SMALL_PIXELS

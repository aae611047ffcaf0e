"""What a pass over all images finds, and how it is kept for the next opening of the same files.

It is below ``ORCHESTRATOR_HOME/cache`` (``scan/*.npz``, ``decoded/*.npy``), by the store's stamp and the way of
looking.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import PIL

from jobs.data.cache import atomic, cached, key
from jobs.data.decode import Pixels
from jobs.data.findings import Scan as Scan
from jobs.data.store import Store
from jobs.lock import LONG_S, Lock

logger = logging.getLogger(__name__)

_FORMAT = 3
"""Raise it when a change in ``scan`` or ``decode`` makes earlier findings wrong."""


def known(
    store: Store,
    how: tuple[object, ...],
    keep: bool,
    read: Callable[[Path | None], tuple[Scan, bool]],
    more: tuple[object, ...] = (),
) -> Scan:
    """What an earlier pass found; or what ``read`` finds.

    Args:
        store: the images.
        how: what the pass looks at.
        keep: whether the pixels are wanted.
        read: the pass. It is given a folder where findings are kept on the way, or None; it returns them, and whether
            a storage failed, which may recover without any file changing.
        more: what a pass looks at that finds all this too, and more.
    """
    if store.stamp is None:
        return read(None)[0]
    own = PIL.__version__, type(store).__name__, store.stamp, len(store)
    name, *also = [key(_FORMAT, *own, *each, store.exif_orientation) for each in (how, more) if each]
    for each in (*also, name):
        if (earlier := _recall(each, keep)) is not None:
            return earlier
    with _alone(name):
        if (earlier := _recall(name, keep)) is not None:
            return earlier
        parts = None if keep else cached("scan", name, ".parts")
        found, passing = read(parts)
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


def load(path: Path, pixels: Pixels | None = None) -> Scan | None:
    """Findings that were kept; None where there are none, or none that are whole."""
    try:
        with np.load(path, allow_pickle=False) as file:
            errors = {int(index): reason for index, reason in json.loads(str(file["errors"])).items()}
            return Scan(errors, file["shapes"], file["hashes"], file["sums"], pixels)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def save(path: Path, found: Scan) -> None:
    """Keep findings, without pixels."""
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
    return load(cached("scan", name, ".npz"), kept)


def _remember(name: str, found: Scan) -> Scan:
    """Keep the findings; the result's pixels are then a map of the file, so that memory holds them once only."""
    try:
        if found.pixels is not None:
            with atomic(cached("decoded", name, ".npy")) as path:
                np.save(path, found.pixels, allow_pickle=False)
        save(cached("scan", name, ".npz"), found)
    except OSError as error:
        logger.warning("cannot keep what was found about the data, so it is read again next time: %s", error)
        return found
    return _recall(name, found.pixels is not None) or found

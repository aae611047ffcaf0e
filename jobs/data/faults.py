"""What is wrong with images that were looked at."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from jobs.data.decode import DataError
from jobs.data.findings import Scan
from jobs.data.source import Source
from jobs.data.store import Store
from jobs.names import printable

logger = logging.getLogger(__name__)


def skipped(source: Source, stores: Mapping[str, Store], found: Mapping[str, Scan]) -> list[str]:
    """Name the images that cannot be read.

    Raises:
        DataError: they are more than ``max_corrupt``.
    """
    bad = [
        printable(f"{stores[split].name(i)}: {reason}")
        for split in stores
        for i, reason in sorted(found[split].errors.items())
    ]
    if len(bad) > source.max_corrupt:
        shown = "".join(f"\n  {line}" for line in bad[:10]) + ("\n  ..." if len(bad) > 10 else "")
        raise DataError(
            f"{len(bad)} of {sum(map(len, stores.values()))} images cannot be read:{shown}\n"
            f"mend or remove them, or set data.max_corrupt (now {source.max_corrupt}) to {len(bad)} to skip them"
        )
    for line in bad:
        logger.warning("skipped an image that cannot be read: %s", line)
    return [f"skipped {len(bad)} images that cannot be read: " + "; ".join(bad[:10])] if bad else []


def one_size(size: int, stores: Mapping[str, Store], found: Mapping[str, Scan]) -> None:
    """Check that all images are squares of that size.

    Raises:
        ValueError: one is not.
    """
    for split, scanned in found.items():
        shapes = scanned.shapes[scanned.good, :2]
        odd = (shapes != size).any(1)
        if odd.any():
            where = printable(stores[split].name(int(scanned.good[odd.argmax()])))
            shape = "x".join(map(str, shapes[odd.argmax()]))
            common = Counter(map(tuple, shapes.tolist())).most_common(3)
            raise ValueError(
                f"images differ in size: the first is {size}x{size}, {where} is {shape} "
                f"(commonest in {split}: {', '.join(f'{h}x{w}' for (h, w), _ in common)}); set data.size, to which all "
                "are then resized"
            )


def leaks(hashes: Mapping[str, NDArray[np.uint8]]) -> list[str]:
    """Say which splits share images, for then the score of the later one flatters."""
    notes = []
    for one, other in (("val", "train"), ("test", "train"), ("test", "val")):
        begin, known = hashes[one].view(np.uint64)[:, 0], hashes[other].view(np.uint64)[:, 0]
        alike = hashes[one][np.isin(begin, known)].view("V16").ravel().tolist()  # few, of which the rest is compared
        rest = set(hashes[other][np.isin(known, begin)].view("V16").ravel().tolist()) if alike else set()
        if count := sum(each in rest for each in alike):
            are = "image of {} is" if count == 1 else "images of {} are"
            notes.append(f"{count} {are.format(one)} also in {other}, byte for byte")
    return notes

"""Which prepared images a source is going to need, by the headers of its images: before any image is decoded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.data.jpegs import Jpegs
from jobs.data.packed import Packed
from jobs.data.passing import Passing
from jobs.data.prepared import Short, Square
from jobs.data.scan import headers
from jobs.data.source import Source
from jobs.data.split import divide
from jobs.data.store import Store
from jobs.data.streamed import Streamed

_SPARE, _LARGE = 8 / 7, 1.5
"""``prepare: auto`` takes so many times ``size``, where the median short side is so many times as large as that."""


def prepared_side(size: int, median: float) -> int | None:
    """What ``prepare: auto`` takes for images that are fed as ``size`` pixels, by the median of their short sides."""
    side = math.ceil(size * _SPARE)
    return side if median >= _LARGE * side else None


def short_side(source: Source, size: int, shapes: Mapping[str, NDArray[np.int32]]) -> int | None:
    """The short side to which training images are made smaller; None where they stay as they are.

    Args:
        source: gives ``prepare`` and ``test_size``.
        size: height and width that the model is fed in training.
        shapes: heights and widths of the readable images, of each split.
    """
    if source.prepare != "auto":
        return source.prepare or None
    short = np.concatenate([each[:, :2].min(1) for each in shapes.values()])
    return prepared_side(max(size, source.test_size or size), float(np.median(short))) if len(short) else None


def prepared(source: Source, images: Streamed, split: str, side: int, size: int) -> Packed | Jpegs:
    """The prepared images of a split.

    Args:
        source: gives ``prepare_as``, ``test_size`` and ``crop_ratio``.
        images: as they are stored.
        split: train, val or test.
        side: see :func:`short_side`.
        size: see :func:`short_side`.

    Raises:
        ValueError: an image would be too long for JPEG.
    """
    if split != "train":
        return Packed(images, Square(source.test_size or size, source.crop_ratio))
    return (Jpegs if source.prepare_as == "jpeg" else Packed)(images, Short(side))


def expected(
    source: Source,
    classes: Sequence[str],
    stores: Mapping[str, Store],
    size: int,
    channels: int,
    splits: Sequence[str],
) -> dict[str, list[Passing]]:
    """The prepared images of ``splits``, by the source's own split whose images they are made of.

    They are right if every image can be decoded whose header can be read; what cannot be decoded belongs to no split.
    Nothing is expected where headers cannot be read alone, or where they say that the data will be refused.
    """
    passing: dict[str, list[Passing]] = {of: [] for of in stores}
    if not all(store.listed and store.stamp is not None for store in stores.values()):
        return passing
    found = {of: headers(store) for of, store in stores.items()}
    good = {of: each.good for of, each in found.items()}
    shapes = {of: each.shapes[good[of]] for of, each in found.items()}
    side = short_side(source, size, shapes)
    if side is None or (source.channels or max(each[:, 2].max(initial=0) for each in shapes.values())) != channels:
        return passing
    try:
        parts, _ = divide({of: store.labels[good[of]] for of, store in stores.items()}, source, classes)
        for split in splits:
            of, index = parts[split]
            index = good[of][index]
            images = Streamed(stores[of], index, channels, found[of].shapes[index, :2])
            passing[of].append(Passing(prepared(source, images, split, side, size), good[of]))
    except ValueError:  # it is raised again once it is known which images cannot be read, which comes first
        return {of: [] for of in stores}
    return passing

"""From the stores of a source to the opened ``Data``: a pass over all images, splits, statistics, digest."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from jobs.data.decode import DataError, Pixels, UnreadableError
from jobs.data.expected import expected, prepared, short_side
from jobs.data.faults import leaks, one_size, skipped
from jobs.data.found import Scan
from jobs.data.jpegs import JPEG, Jpegs
from jobs.data.passing import Passing
from jobs.data.prepared import Prepared
from jobs.data.scan import headers, scan
from jobs.data.sets import Arrays, Data, Split, Stored
from jobs.data.source import Source
from jobs.data.split import divide
from jobs.data.store import Some, Store
from jobs.data.streamed import CHANGED, UNCHECKED, Streamed
from jobs.names import printable
from jobs.words import any_of, byte_size, nearest

logger = logging.getLogger(__name__)

MEMORY_BYTES = 4 * 2**30
"""``in_memory: auto`` decodes into memory what takes up to this many bytes as pixels, over all splits."""
_SAMPLE = 4096
"""Training images whose mean and std are taken where not all are decoded."""
_UNCHECKED = (
    "data.check: sizes: images are not decoded before training: a broken one ends the run when it is met, and copies "
    "in several splits are not known"
)
_COUNTED = "; data.max_corrupt counts those alone whose beginning cannot be read"
_STD_FLOOR = 1 / 255
"""A channel that is constant (to within a grey level) is divided by this rather than by nothing."""


def prepare(
    source: Source,
    classes: Sequence[str],
    stores: Mapping[str, Store],
    notes: Sequence[str] = (),
    resizes: bool | None = None,
) -> Data:
    """Open ``stores`` as ``source`` asks.

    Args:
        source: the common fields of the spec.
        classes: names of the labels 0, 1, ...
        stores: the source's own splits: ``train`` and perhaps ``val`` and ``test``.
        notes: what the source itself has to tell.
        resizes: whether a job that is about to train on this machine cuts its images out of larger ones
            (``Data.training``): then prepared pixels are made in the same pass. None makes none.

    Raises:
        ValueError: too many images are unreadable, sizes or channels do not fit, a split or class is too small.
    """
    if len(classes) < 2:
        found_one = f"one class only, {classes[0]!r}" if classes else "no class"
        raise ValueError(
            f"the data has {found_one}, and there is nothing to tell apart; where classes are folders, name "
            "the folder that they all lie in"
        )
    for store in stores.values():
        store.exif_orientation = source.exif_orientation
    size, channels = _first(source, stores)
    full = source.check == "full" or not all(store.listed for store in stores.values())
    found = _scan(size, channels, source, classes, stores, full, resizes)
    if source.channels is None and channels == 1 and any((s.shapes[s.good, 2] == 3).any() for s in found.values()):
        channels = 3
        found = _scan(size, channels, source, classes, stores, full, resizes)
    notes = [*notes, *(store.note for store in stores.values() if store.note), *skipped(source, stores, found)]
    if source.size is None:
        one_size(size, stores, found)
    good = {split: found[split].good for split in stores}
    parts, more = divide({split: store.labels[good[split]] for split, store in stores.items()}, source, classes)
    picks = {split: (of, good[of][index]) for split, (of, index) in parts.items()}
    notes += more
    of, index = picks["train"]
    weights = _class_weights(source, classes, stores[of].labels[index])
    if full:
        notes += leaks({split: found[of].hashes[index] for split, (of, index) in picks.items()})
        sums = found[of].sums[index]
    else:
        notes.append(_UNCHECKED + _COUNTED * bool(source.max_corrupt))
        sums = np.zeros((0, 2, 0), np.uint64)
        if source.mean is None or source.std is None:
            sums = _sampled(stores[of], index, size, channels)
            notes.append(f"mean and std are those of {len(sums)} training images, evenly spread")
    mean, std = _statistics(source, channels, sums, found[of].area or size * size)

    test_size = source.test_size or size
    side = short_side(source, size, {of: found[of].shapes[found[of].good] for of in found})

    def pixels(name: str) -> Pixels | None:
        of, index = picks[name]
        kept = found[of].pixels
        if kept is not None and name != "train" and (test_size, source.crop_ratio) != (size, 1.0):
            return _some(stores[of], index, test_size, channels, True, source.crop_ratio).pixels
        return kept if kept is None or len(index) == len(kept) else kept[index]

    def split(name: str) -> Split:
        of, index = picks[name]
        stored = found[of].shapes[index, :2]
        streamed = Streamed(stores[of], index, channels, stored, full)
        images: Stored = streamed
        if side and stores[of].stamp is not None:
            images = prepared(source, streamed, name, side, size)
        kept = pixels(name)
        if kept is None:
            return images
        original = images if name == "train" and (stored != size).any() else None
        return Arrays(kept, stores[of].labels[index], original)

    digest = hashlib.sha256(json.dumps([list(classes), size, channels, test_size, source.crop_ratio]).encode())
    listed = digest.copy()
    listed.update(json.dumps(["names and lengths", mean, std]).encode())
    for name in ("train", "val", "test"):
        of, index = picks[name]
        labels = f"{name} {len(index)}".encode() + stores[of].labels[index].astype("<i8").tobytes()
        digest.update(labels + found[of].hashes[index].tobytes())
        listed.update(labels + index.tobytes() + stores[of].listed.encode())
    blocks = None
    of, index = picks["train"]
    if (places := stores[of].places) is not None:
        blocks = np.unique(places[index], return_counts=True)[1].astype(np.int64)
        digest.update(f"lanes {stores[of].lanes} shards {blocks.tolist()}".encode())
    train, val, test = split("train"), split("val"), split("test")
    original = train.original if isinstance(train, Arrays) else train
    if isinstance(original, Prepared):
        how = f"prepare {side}" + (f" {JPEG}" if isinstance(original, Jpegs) else "")
        digest.update(how.encode())
        listed.update(how.encode())
        room = sum(each.room for each in (original, val, test) if isinstance(each, Prepared))
        notes.append(
            f"training images are made smaller once, to a short side of {side} pixels at most: {original.about}"
            f"{byte_size(room)} on every machine that trains on them, with streamed validation and test images as they "
            "are scored"
        )
    return Data(
        classes=tuple(classes),
        channels=channels,
        size=size,
        mean=mean,
        std=std,
        digest=(digest if full else listed).hexdigest(),
        check="full" if full else "sizes",
        listed=listed.hexdigest() if all(store.listed for store in stores.values()) else "",
        train=train,
        val=val,
        test=test,
        test_size=test_size,
        crop_ratio=source.crop_ratio,
        class_weights=weights,
        balanced_sampling=source.balanced_sampling,
        blocks=blocks,
        lanes=stores[of].lanes,
        exif_orientation=source.exif_orientation,
        notes=tuple(map(printable, notes)),
    )


def _first(source: Source, stores: Mapping[str, Store]) -> tuple[int, int]:
    """Size and channels by the first image that can be read; later ones are held against it."""
    if source.size and source.channels:
        return source.size, source.channels
    for store in stores.values():
        for index in range(len(store)):
            try:
                height, width, own = store.shape(index)
            except UnreadableError:
                continue
            if source.size is None and height != width:
                raise ValueError(
                    f"{printable(store.name(index))} is {height} high and {width} wide, but images in their own size "
                    "must be square; set data.size, to which they are then resized"
                )
            return source.size or height, source.channels or own
    return source.size or 1, source.channels or 1


def _scan(
    size: int,
    channels: int,
    source: Source,
    classes: Sequence[str],
    stores: Mapping[str, Store],
    full: bool,
    resizes: bool | None,
) -> dict[str, Scan]:
    total = sum(map(len, stores.values())) * size * size * channels
    keep = total <= MEMORY_BYTES if source.in_memory == "auto" else source.in_memory
    if not full and not keep:
        return {split: headers(store) for split, store in stores.items()}
    splits = ("train",) * bool(resizes) if keep else ("train", "val", "test")

    @cache
    def passing() -> dict[str, list[Passing]]:
        return expected(source, classes, stores, size, channels, splits)

    made = resizes is not None and source.prepare and splits
    sums = source.mean is None or source.std is None

    def one(of: str) -> Scan:
        return scan(stores[of], size, channels, keep, passing=(lambda: passing()[of]) if made else tuple, sums=sums)

    return {of: one(of) for of in stores}


def _sampled(store: Store, index: NDArray[np.int64], size: int, channels: int) -> NDArray[np.uint64]:
    """Sums as in :class:`jobs.data.found.Scan`, of some of these images.

    Raises:
        DataError: one of them cannot be decoded.
    """
    places = np.linspace(0, len(index) - 1, min(_SAMPLE, len(index))).round().astype(np.int64)
    return _some(store, index[places], size, channels, False, cure=UNCHECKED).sums


def _some(
    store: Store,
    index: NDArray[np.int64],
    size: int,
    channels: int,
    keep: bool,
    crop_ratio: float = 1.0,
    cure: str = CHANGED,
) -> Scan:
    """What :func:`jobs.data.scan.scan` finds of some images of a store.

    Raises:
        DataError: one of them cannot be decoded.
    """
    some = Some(store, index)
    found = scan(some, size, channels, keep, crop_ratio)
    for number, reason in found.errors.items():
        raise DataError(f"{printable(some.name(number))} cannot be read: {reason}; {cure}")
    return found


def _class_weights(source: Source, classes: Sequence[str], labels: NDArray[np.int64]) -> tuple[float, ...] | None:
    """How much each class counts in the loss, 1 on average over the training images."""
    given = source.class_weights
    if given is None:
        return None
    counts = np.bincount(labels, minlength=len(classes))
    if given == "balanced":
        weights = 1 / counts
    else:
        if unknown := [name for name in given if name not in classes]:
            near = any_of(map(printable, nearest(unknown[0], classes) or classes[:3]))
            raise ValueError(f"data.class_weights names {unknown[0]!r}, but no class; did you mean {near}?")
        weights = np.array([given.get(name, 1.0) for name in classes])
    return tuple((weights * len(labels) / (weights * counts).sum()).tolist())


def _statistics(
    source: Source, channels: int, sums: NDArray[np.uint64], area: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels in 0 .. 1, exact: the sums are integers."""
    for name, given in (("mean", source.mean), ("std", source.std)):
        if given is not None and len(given) != channels:
            raise ValueError(
                f"data.{name} has {len(given)} values, but the images have {channels} channels; give {channels}"
            )
    total, squares = sums.sum(0, dtype=np.uint64).tolist()
    count = len(sums) * area
    means = tuple(one / count / 255 for one in total)
    # count * squares - total ** 2 in Python's integers: nothing cancels, however many pixels there are
    stds = tuple(
        max((count * two - one * one) ** 0.5 / count / 255, _STD_FLOOR) for one, two in zip(total, squares, strict=True)
    )
    return source.mean or means, source.std or stds

"""What a source is, as far as choosing a recipe needs it: classes, splits, sizes, and what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from jobs.data.decode import UnreadableError
from jobs.data.split import divide
from jobs.data.store import Encoded
from jobs.data.streamed import Streamed
from orchestrator.init.facts import Survey
from orchestrator.init.findings import examples, findings
from orchestrator.init.look import Look
from orchestrator.init.source import Source

SHARES = ((0.2, 0.1), (0.2, 0.2), (0.25, 0.25), (0.25, 0.34))
"""Shares of test and val that are tried in turn, until every class is in every split."""
_SHOWN = 5
_FEW = 64


def survey(source: Source, classes: Sequence[str], stores: Mapping[str, Encoded], look: Look) -> Survey:
    """Weigh what was seen.

    Raises:
        ValueError: nothing can be trained on it; why, and what to do.
    """
    if len(classes) < 2:
        raise ValueError(
            f"there is one class only, {classes[0]!r}; a classifier needs two or more: put each class's images into a "
            "folder of its own"
        )
    if not len(look.sizes):
        raise ValueError("no image can be read: " + "; ".join(examples(stores, list(look.errors), look.errors)))
    good = {split: np.ones(len(store), bool) for split, store in stores.items()}
    for split, index in look.errors:
        good[split][index] = False
    labels = {split: store.labels[good[split]] for split, store in stores.items()}
    counts = np.bincount(labels["train"], minlength=len(classes))
    if not counts.all():
        raise ValueError(
            f"class {classes[int(counts.argmin())]!r} has no image in train that can be read; add some, or remove it"
        )
    source, parts = _divide(source, classes, labels, counts)
    headless = len(look.errors) - look.unsound
    rate = look.count / max(1, look.headers), (look.count - headless) / max(1, look.decoded)
    corrupt = math.ceil(headless * rate[0] + look.unsound * rate[1])
    drawn = tuple(split for split in ("val", "test") if parts[split][0] == "train")
    found = Survey(source, tuple(classes), counts, {split: n for split, (_, n) in parts.items()}, drawn, look, corrupt)
    return replace(found, findings=findings(found, labels, stores))


def _divide(
    source: Source, classes: Sequence[str], labels: Mapping[str, NDArray[np.int64]], counts: NDArray[np.int64]
) -> tuple[Source, dict[str, tuple[str, int]]]:
    """The source with shares that put every class into every split that is drawn, and each split's origin and size."""
    for test, val in SHARES:
        tried = source.model_copy(update={"test_fraction": test, "val_fraction": val})
        try:
            parts, _ = divide(labels, tried, classes)
        except ValueError:
            continue
        drawn = [labels["train"][index] for of, index in parts.values() if of == "train"]
        if all(len(np.unique(part)) == len(classes) for part in drawn):
            return tried, {split: (of, len(index)) for split, (of, index) in parts.items()}
    order = np.argsort(counts)[:_SHOWN].tolist()
    small = ", ".join(f"{classes[label]!r} has {counts[label]}" for label in order)
    raise ValueError(
        f"too few images to have every class in train, val and test: {small}. A class needs 4 or more (50 to learn "
        "much from); add images, or take the smallest classes out"
    )


def originals(found: Survey, count: int, channels: int) -> Streamed | None:
    """So many training images as they are stored, a few files again and again; None where none of them can be read."""
    store = found.source.stores()[1]["train"]
    picks, shapes = list[int](), list[tuple[int, ...]]()
    near = len(store) if store.places is None else int((store.places == 0).sum())  # in one shard
    for index in np.linspace(0, near - 1, min(_FEW, near)).astype(np.int64):
        try:
            shape = store.decoded(int(index), channels)[0].pixels.shape
        except UnreadableError:
            continue
        picks.append(index)
        shapes.append(shape[:2])
    if not picks:
        return None
    return Streamed(store, np.resize(picks, count), channels, np.resize(np.array(shapes, np.int32), (count, 2)))

"""Stratified splits, and which of a source's own splits serves as what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.data.source import Source

Index = NDArray[np.int64]


def stratified(
    labels: NDArray[np.int64], fraction: float, seed: int, classes: Sequence[str], what: str
) -> tuple[Index, Index]:
    """Hold out a share of the samples, in every class alike: those that scikit-learn's ``train_test_split`` holds out.

    Args:
        labels: int64 ``(N,)``, indices into ``classes``.
        fraction: share that is held out.
        seed: of the draw.
        classes: their names, for errors.
        what: the field that gives ``fraction``, for errors.

    Returns:
        Sorted positions of the samples that stay, and of those held out.

    Raises:
        ValueError: a class, or one of the two sides, would be too small.
    """
    present, counts = np.unique(labels, return_counts=True)
    if few := [classes[label] for label, count in zip(present.tolist(), counts.tolist(), strict=True) if count < 2]:
        raise ValueError(f"{what} {fraction:g}: {_few(few)} has one image only, and cannot be divided; add images")
    held = math.ceil(fraction * len(labels))
    if not len(present) <= held <= len(labels) - len(present):
        smallest = len(present) / len(labels)
        raise ValueError(
            f"{what} {fraction:g} of {len(labels)} images holds out {held} and leaves {len(labels) - held}, but each "
            f"side needs one of each of {len(present)} classes; take {smallest:.3g} to {1 - smallest:.3g}"
        )
    draws = np.random.RandomState(seed)
    kept = _proportional(counts, len(labels) - held, draws)
    taken = _proportional(counts - kept, held, draws)
    rest, out = list[Index](), list[Index]()
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    for own, stay, leave in zip(by_class, kept.tolist(), taken.tolist(), strict=True):
        mixed = own[draws.permutation(len(own))]
        rest.append(mixed[:stay])
        out.append(mixed[stay : stay + leave])
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(out))


def _proportional(counts: Index, total: int, draws: np.random.RandomState) -> Index:
    """How many to take of each class for ``total`` in all: in proportion to ``counts``, the largest remainders first
    and equal ones by chance, in scikit-learn's order of draws (importing that takes a second)."""
    exact = counts / counts.sum() * total
    taken = np.floor(exact)
    missing, remainders = int(total - taken.sum()), exact - taken
    for remainder in np.unique(remainders)[::-1] if missing > 0 else ():
        (alike,) = np.where(remainders == remainder)
        chosen = draws.choice(alike, size=min(len(alike), missing), replace=False)
        taken[chosen] += 1
        missing -= len(chosen)
        if missing == 0:
            break
    whole: Index = taken.astype(np.int64)
    return whole


def divide(
    labels: Mapping[str, NDArray[np.int64]], source: Source, classes: Sequence[str]
) -> tuple[dict[str, tuple[str, Index]], list[str]]:
    """Train, val and test out of the splits that a source has.

    Test is what people report, and never steers. So ``test`` is the test split and ``val`` the validation split; a lone
    ``val`` is the *test* split, and validation is held out of train; what is missing is a stratified share of train.

    Args:
        labels: of the source's own splits: ``train`` and perhaps ``val`` and ``test``.
        source: gives ``val_fraction``, ``test_fraction`` and ``split_seed``.
        classes: their names.

    Returns:
        For each of train, val, test: the source's split that it is taken from, and the positions in it. And notes.
    """
    if empty := [split for split, own in labels.items() if not len(own)]:
        raise ValueError(f"the {empty[0]} split has no readable images")
    notes: list[str] = []
    parts: dict[str, tuple[str, Index]] = {}
    train: Index = np.arange(len(labels["train"]), dtype=np.int64)

    def hold_out(split: str, what: str, fraction: float) -> None:
        nonlocal train
        rest, out = stratified(labels["train"][train], fraction, source.split_seed, classes, what)
        parts[split], train = ("train", train[out]), train[rest]

    def whole(split: str) -> tuple[str, Index]:
        return split, np.arange(len(labels[split]), dtype=np.int64)

    if "test" in labels:
        parts["test"] = whole("test")
    elif "val" in labels:
        parts["test"] = whole("val")
        notes.append(
            f"the source has val but no test: val is the test split, and validation is {source.val_fraction:g} of train"
        )
    else:
        hold_out("test", "test_fraction", source.test_fraction)
        notes.append(f"the source has no test split: it is {source.test_fraction:g} of train, stratified")
    if "val" in labels and "test" in labels:
        parts["val"] = whole("val")
    else:
        hold_out("val", "val_fraction", source.val_fraction)
    parts["train"] = ("train", train)

    counts = np.bincount(labels["train"][train], minlength=len(classes))
    if not counts.all():
        raise ValueError(
            f"{_few([classes[label] for label in np.flatnonzero(counts == 0).tolist()])} has no images in train"
        )
    return parts, notes


def _few(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" (and {len(names) - 5} more)" if len(names) > 5 else "")

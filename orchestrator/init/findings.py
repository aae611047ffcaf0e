"""What is wrong with images, or worth to know, each with its cure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.data.store import Encoded
from orchestrator.init.facts import Finding, Survey
from orchestrator.init.look import Place

UNEVEN, VERY_UNEVEN = 3.0, 20.0
"""Ratios of the largest class to the smallest from which on classes are weighted, and drawn equally often."""
FEW = 20
"""Training images a class below which it is reported."""
_COARSE = 100
_LONG = 2.0
_SHOWN = 5


def draws_evenly(found: Survey) -> bool:
    """Whether all classes are to be drawn equally often; shards cannot be drawn from so."""
    return found.ratio >= VERY_UNEVEN and found.source.kind != "shards"


def findings(
    found: Survey, labels: Mapping[str, NDArray[np.int64]], stores: Mapping[str, Encoded]
) -> tuple[Finding, ...]:
    """All of them, the grave ones first.

    Args:
        found: what was found so far.
        labels: int64 ``(N,)`` of the readable images of each split.
        stores: all images of each split.
    """
    every = [*_broken(found, stores), *_copies(found, stores), *_few(found, labels), *_shapes(found)]
    return tuple(sorted(every, key=lambda finding: not finding.grave))


def _broken(found: Survey, stores: Mapping[str, Encoded]) -> list[Finding]:
    look = found.look
    bad = sorted(look.errors, key=lambda place: (list(stores).index(place[0]), place[1]))
    if not bad:
        return []
    sampled = look.decoded + len(bad) - look.unsound < look.count
    more = f"; a sample was decoded, so about {found.corrupt} are to be expected" if sampled else ""
    cure = f"fix or remove them; until then the recipe lets {found.corrupt} be skipped (data.max_corrupt)"
    return [Finding(f"{_images(len(bad))} cannot be read{more}", cure, examples(stores, bad, look.errors), True)]


def _copies(found: Survey, stores: Mapping[str, Encoded]) -> list[Finding]:
    groups = [[place for place in group if place not in found.look.errors] for group in found.look.copies]
    groups = [group for group in groups if len(group) > 1]
    label = {place: int(stores[place[0]].labels[place[1]]) for group in groups for place in group}
    torn = [group for group in groups if len({label[place] for place in group}) > 1]
    leaks = [group for group in groups if len({place[0] for place in group}) > 1]
    same = [group for group in groups if group not in leaks]
    told: list[Finding] = []
    if torn:
        shown = tuple(
            " = ".join(f"{_name(stores, p)} [{found.classes[label[p]]}]" for p in _unlike(group, label))
            for group in torn[:_SHOWN]
        )
        what = f"{_images(len(torn))} in two classes or more, byte for byte"
        told.append(Finding(what, "decide which class is right, and remove the other files", shown, True))
    if leaks:
        shown = tuple(" = ".join(_name(stores, group[at]) for at in (-1, 0)) for group in leaks[:_SHOWN])
        where = " and ".join(sorted({split for group in leaks for split, _ in group}))
        what = f"a leak: {_images(len(leaks))} in both {where}, byte for byte, so the score will flatter"
        told.append(Finding(what, "remove them from one of the splits", shown, True))
    if same:
        shown = tuple(" = ".join(_name(stores, place) for place in group[:2]) for group in same[:_SHOWN])
        extra = sum(len(group) - 1 for group in same)
        leaky = bool(found.drawn) and any(group[0][0] == "train" for group in same)
        what = f"{_images(extra)} copied from others of the same split, byte for byte"
        chance = f"; a leak, once {' or '.join(found.drawn)}, drawn by chance, gets one of them" if leaky else ""
        told.append(Finding(what + chance, "keep one of each", shown, leaky))
    return told


def _unlike(group: Sequence[Place], label: Mapping[Place, int]) -> list[Place]:
    """One place of each label."""
    return list({label[place]: place for place in reversed(group)}.values())[::-1]


def _few(found: Survey, labels: Mapping[str, NDArray[np.int64]]) -> list[Finding]:
    told: list[Finding] = []
    if found.ratio >= UNEVEN:
        most, least = int(found.counts.argmax()), int(found.counts.argmin())
        what = (
            f"uneven classes, {found.ratio:.1f} to 1: {found.classes[most]} has {found.counts[most]}, "
            f"{found.classes[least]} {found.counts[least]}"
        )
        how = "draws all classes equally often (data.balanced_sampling)"
        if not draws_evenly(found):
            how = "weights the classes in the loss (data.class_weights: balanced)"
        told.append(Finding(what, f"the recipe {how}; look at balanced accuracy, not top-1"))
    few = np.flatnonzero(found.counts < FEW).tolist()
    if few:
        named = ", ".join(f"{found.classes[label]} ({found.counts[label]})" for label in few[:_SHOWN])
        rest = f" and {len(few) - _SHOWN} more classes" if len(few) > _SHOWN else ""
        told.append(Finding(f"few images to learn from: {named}{rest}", f"add images; {FEW} is little, 100 is better"))
    if coarse := [split for split in ("val", "test") if found.parts[split] < _COARSE]:
        counts = " and ".join(f"{split} has {_images(found.parts[split])}" for split in coarse)
        steps = " and ".join(f"{100 / found.parts[split]:.1f}" for split in coarse)
        cure = "trust differences of several of them only, and over several seeds"
        told.append(Finding(f"{counts}: one of them is {steps} points of accuracy", cure))
    if "val" in labels and "test" not in labels:
        what = "there is a val split and no test split: val is the test split, and steers nothing"
        told.append(Finding(what, "to keep it for validation, add a test split"))
    for split in ("val", "test"):
        absent = sorted(set(range(len(found.classes))) - set(labels.get(split, labels["train"]).tolist()))
        if absent:
            named = ", ".join(found.classes[label] for label in absent[:_SHOWN])
            cure = "add some, or nothing is learnt about how they fare"
            told.append(Finding(f"{split} has no images of {named}", cure))
    return told


def _shapes(found: Survey) -> list[Finding]:
    look, told = found.look, list[Finding]()
    short, long = look.sizes.min(1), look.sizes.max(1)
    if stretched := int((long > _LONG * short).sum()):
        what = f"{_images(stretched)} more than {_LONG:g} times as long as wide"
        told.append(Finding(what, "only their central square is scored; crop them if what counts lies outside"))
    handled = [
        ("grey", "grey", "repeated to three channels" if found.colour else ""),
        ("with alpha", "transparent", "laid over white"),
        ("palette", "palette", "looked up to colour"),
        ("CMYK", "CMYK", "turned into RGB"),
        ("16 bits", "16-bit", "scaled to 8 bits"),
    ]
    if odd := [f"{look.kinds[kind]:,} {name} ({how})" for kind, name, how in handled if look.kinds[kind] and how]:
        told.append(Finding(f"images of other kinds: {', '.join(odd)}", "nothing to do: they are read so everywhere"))
    if look.headers < look.count:
        read = f"{look.headers:,} of {look.count:,} headers were read, evenly spread"
        what = f"{read}: sizes and kinds are those of a sample"
        told.append(Finding(what))
    if look.decoded + len(look.errors) - look.unsound < look.count and not look.errors:
        what = f"{look.decoded:,} of {look.count:,} images were decoded, and all were sound"
        told.append(Finding(what, "plan and train read every one, and name what is broken"))
    return told


def examples(
    stores: Mapping[str, Encoded], places: Sequence[Place], reasons: Mapping[Place, str] | None = None
) -> tuple[str, ...]:
    """Some names, with reasons."""
    shown = tuple(_name(stores, p) + (f": {reasons[p]}" if reasons else "") for p in places[:_SHOWN])
    return (*shown, f"and {len(places) - _SHOWN} more") if len(places) > _SHOWN else shown


def _name(stores: Mapping[str, Encoded], place: Place) -> str:
    """Where an image lies, from here where it is below."""
    return stores[place[0]].name(place[1]).removeprefix(f"{os.getcwd()}{os.sep}")


def _images(count: int, kind: str = "") -> str:
    return f"{count:,} {f'{kind} ' if kind else ''}image{'' if count == 1 else 's'}"

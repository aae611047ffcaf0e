"""A folder of images, a folder a class, as torchvision's ``ImageFolder`` reads it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from jobs.data.files import Files
from jobs.data.formats import SUFFIXES, is_image, suffixes, to_convert
from jobs.data.prepare import prepare
from jobs.data.sets import Data
from jobs.data.source import Source
from jobs.data.tree import Tree, tree
from jobs.names import composed, few, printable
from jobs.paths import PathOrUrl
from jobs.urls import absolute

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
"""The splits, and what their folders may be called."""


class ImageFolder(Source):
    """A folder with a folder of images for each class, directly or below ``train/``, ``val/`` and ``test/``.

    With ``test/``, that is the test split, and ``val/`` (if there is one) the validation split. With ``val/`` alone, it
    is the *test* split, being the number that people report, and validation is held out of train. With neither, both
    are stratified shares. A split may lack classes of train, and one without class folders is passed over, both with a
    note. Hidden files are passed over; so are, with a note, files with other suffixes than those of images. Links to
    folders elsewhere are followed, with a note.
    """

    kind: Literal["image_folder"] = "image_folder"
    root: PathOrUrl
    """The folder, or its URL (``s3://bucket/folder``); ``~`` is expanded."""

    def open(self, resizes: bool | None = None) -> Data:
        """List, check and read the files."""
        return prepare(self, *self.stores(), resizes)

    def stores(self) -> tuple[list[str], dict[str, Files], list[str]]:
        """Class names, the files of each split that there is, and notes; no file is opened.

        Raises:
            ValueError: folders are missing or empty, a split has classes that train has not, or it cannot be seen which
                folders are splits and which are classes.
        """
        root = tree(absolute(self.root, "data.root"), "data.root")
        folders, notes = _splits(root)
        classes = root.folders(folders["train"])
        _check_forms(root, folders["train"], classes)
        known = set(map(composed, classes))
        for split, folder in list(folders.items()):
            there = root.folders(folder)
            if not there and split != "train":
                notes.append(
                    f"{root.name(folder)} was passed over: it has no class folders, so nothing tells its classes"
                )
                del folders[split]
            elif more := [name for name in there if composed(name) not in known]:
                raise ValueError(
                    f"{root.name(folder)} has class folders that {root.name(folders['train'])} has not: {few(more)}"
                )
        notes += [note for folder in {"", *folders.values()} if (note := _loose(root, folder))]
        stores = {split: _files(root, folders, split, classes, notes) for split in folders}
        return classes, stores, [*notes, *root.notes]


def _splits(root: Tree) -> tuple[dict[str, str], list[str]]:
    """The folder of each split that there is (all under ``train`` where there are class folders only), and notes.

    A folder that is called as a split is one if it holds folders, and images only in these, or if it shares two or more
    of its folders with another such folder. (A class may be called "train".)
    """
    names = root.folders("")
    found = {split: [name for name in names if name.lower() in known] for split, known in SPLITS.items()}
    called = [name for several in found.values() for name in several]
    others = [name for name in names if name not in called]
    inner = {name: set(map(composed, root.folders(name))) for name in called}
    shared = [name for name in called if any(len(inner[name] & inner[other]) > 1 for other in called if other != name)]
    splits = [n for n in called if inner[n] and (n in shared or not others or not any(map(is_image, root.files(n))))]
    if called and not splits and not others:
        raise ValueError(
            f"{root.name('')} has only {_and(called)}, which hold no folders. If they are splits, put each class's "
            "images into a folder of its own in each of them; if they are classes, call them otherwise"
        )
    if not splits:
        return {"train": ""}, []
    classes = [name for name in others if any(map(is_image, root.below(name)))]
    if classes and not shared:
        raise ValueError(
            f"{root.name('')} has {_and(splits)}, called as a split is and full of folders, beside {few(classes)} with "
            f"images. If {_and(splits)} is a split, move the others elsewhere; if it is a class, call it otherwise"
        )
    for split, several in found.items():
        if len(several) > 1:
            raise ValueError(f"{root.name('')} has {' and '.join(several)}, which both mean {split}; keep one")
    if not found["train"]:
        raise ValueError(
            f"{root.name('')} has {', '.join(splits)} but no train folder; name the training images' folder train"
        )
    folders = {split: several[0] for split, several in found.items() if several}
    return folders, [f"{root.name(name)} was passed over: it is no split" for name in others]


def _check_forms(root: Tree, folder: str, classes: Sequence[str]) -> None:
    """Refuse two class folders whose names look alike."""
    counts = Counter(map(composed, classes))
    if alike := [ascii(name) for name in classes if counts[composed(name)] > 1]:
        raise ValueError(
            f"{root.name(folder)} has class folders whose names look alike and differ in how their accents are "
            f"composed: {' and '.join(alike[:4])}; put their images into one of them"
        )


def _loose(root: Tree, folder: str) -> str:
    """A note on the images that a folder of class folders has beside them; empty for none."""
    images = sorted(filter(is_image, root.files(folder)))
    return (
        f"{len(images)} images in no class folder of {root.name(folder)} were left out: {few(images)}" if images else ""
    )


def _files(root: Tree, folders: Mapping[str, str], split: str, classes: Sequence[str], notes: list[str]) -> Files:
    folder = folders[split]
    there = {composed(name): name for name in root.folders(folder)}
    paths: list[str] = []
    counts: list[int] = []
    lacking: list[str] = []
    others: list[str] = []
    if not classes:
        raise ValueError(f"{root.name(folder)} has no class folders; put each class's images into a folder of its own")
    for name in classes:
        own = there.get(composed(name), name)
        where = f"{folder}/{own}" if folder else own
        files = list(root.below(where)) if composed(name) in there else []
        images = list(filter(is_image, files))
        others += [] if len(images) == len(files) else [file for file in files if not is_image(file)]
        if not images and split != "train":
            lacking.append(name)
        elif not images:
            found = f"its {len(files)} files are {suffixes(files)}, and read are" if files else "read are"
            raise ValueError(
                f"class folder {root.name(where)} has no images ({found} {', '.join(sorted(SUFFIXES))}); fill or "
                f"remove it{to_convert(files)}"
            )
        images.sort(key=None if "".join(images).isascii() else os.fsencode)
        paths += [f"{own}/{file}" for file in images]
        counts.append(len(images))
    if not paths:
        raise ValueError(f"{root.name(folder)} has no images; fill or remove it")
    if lacking:
        notes.append(f"{root.name(folder)} has no images of {few(lacking)}")
    if others:
        notes.append(
            f"{len(others)} files in {root.name(folder)} were passed over: their suffix is not that of an image "
            f"({suffixes(others)}){to_convert(others)}"
        )
    return root.labelled(folder, paths, np.repeat(np.arange(len(classes)), counts))


def _and(names: Sequence[str]) -> str:
    return " and ".join(map(printable, names))

"""A folder of images, a folder a class, as torchvision's ``ImageFolder`` reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np

from jobs.data.files import Files
from jobs.data.prepare import prepare
from jobs.data.sets import Data
from jobs.data.source import Source
from jobs.data.tree import SUFFIXES, Tree, is_image, tree
from jobs.urls import absolute

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
"""The splits, and what their folders may be called."""


class ImageFolder(Source):
    """A folder with a folder of images for each class, directly or below ``train/``, ``val/`` and ``test/``.

    With ``test/``, that is the test split, and ``val/`` (if there is one) the validation split. With ``val/`` alone, it
    is the *test* split, being the number that people report, and validation is held out of train. With neither, both
    are stratified shares. A split may lack classes of train, and one without class folders is passed over, both with a
    note. Hidden files and files with other suffixes than those of images are passed over.
    """

    kind: Literal["image_folder"] = "image_folder"
    root: str
    """The folder, or its URL (``s3://bucket/folder``); ``~`` is expanded."""

    def absolute(self) -> Self:
        """With an absolute ``root``; a URL is left alone."""
        return self.model_copy(update={"root": absolute(self.root, "data.root")})

    def open(self) -> Data:
        """List, check and read the files."""
        return prepare(self, *self.stores())

    def stores(self) -> tuple[list[str], dict[str, Files], list[str]]:
        """Class names, the files of each split that there is, and notes; no file is opened.

        Raises:
            ValueError: folders are missing or empty, or a split has classes that train has not.
        """
        root = tree(self.absolute().root, "data.root")
        folders, notes = _splits(root)
        classes = root.folders(folders["train"])
        for split, folder in list(folders.items()):
            if not (there := root.folders(folder)) and split != "train":
                notes.append(
                    f"{root.name(folder)} was passed over: it has no class folders, so nothing tells its classes"
                )
                del folders[split]
            elif more := set(there) - set(classes):
                raise ValueError(
                    f"{root.name(folder)} has class folders that {root.name(folders['train'])} has not: {_few(more)}"
                )
        return classes, {split: _files(root, folders, split, classes, notes) for split in folders}, notes


def _splits(root: Tree) -> tuple[dict[str, str], list[str]]:
    """The folder of each split that there is (all under ``train`` where there are class folders only), and notes."""
    names = root.folders("")
    found = {split: [name for name in names if name.lower() in known] for split, known in SPLITS.items()}
    # a class may be called "train": a folder is that of a split if it holds folders and no images
    split_like = [
        name
        for several in found.values()
        for name in several
        if root.folders(name) and not any(map(is_image, root.files(name)))
    ]
    if not split_like:
        return {"train": ""}, []
    for split, several in found.items():
        if len(several) > 1:
            raise ValueError(f"{root.name('')} has {' and '.join(several)}, which both mean {split}; keep one")
    if not found["train"]:
        raise ValueError(
            f"{root.name('')} has {', '.join(split_like)} but no train folder; name the training images' folder train"
        )
    folders = {split: several[0] for split, several in found.items() if several}
    others = [name for name in names if name not in folders.values()]
    return folders, [f"{root.name(name)} was passed over: it is no split" for name in others]


def _files(root: Tree, folders: Mapping[str, str], split: str, classes: Sequence[str], notes: list[str]) -> Files:
    folder, there = folders[split], set(root.folders(folders[split]))
    paths: list[str] = []
    labels: list[int] = []
    lacking: set[str] = set()
    other = 0
    if not classes:
        raise ValueError(f"{root.name(folder)} has no class folders; put each class's images into a folder of its own")
    for label, name in enumerate(classes):
        where = f"{folder}/{name}" if folder else name
        files = list(root.below(where)) if name in there else []
        images = [f"{name}/{file}" for file in files if is_image(file)]
        other += len(files) - len(images)
        if not images and split != "train":
            lacking.add(name)
        elif not images:
            raise ValueError(
                f"class folder {root.name(where)} has no images ({', '.join(sorted(SUFFIXES))}); fill or remove it"
            )
        paths += sorted(images, key=os.fsencode)
        labels += [label] * len(images)
    if not paths:
        raise ValueError(f"{root.name(folder)} has no images; fill or remove it")
    if lacking:
        notes.append(f"{root.name(folder)} has no images of {_few(lacking)}")
    if other:
        notes.append(f"{other} files in {root.name(folder)} were passed over: their suffix is not that of an image")
    return root.labelled(folder, paths, np.array(labels, np.int64))


def _few(names: set[str]) -> str:
    return ", ".join(sorted(names)[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "none"

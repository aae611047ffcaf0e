"""A folder of images, a folder a class, as torchvision's ``ImageFolder`` reads it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np

from jobs.data.files import Files
from jobs.data.prepare import prepare
from jobs.data.sets import Data
from jobs.data.source import Source
from jobs.data.tree import SUFFIXES, Tree, is_image, tree
from jobs.urls import absolute

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""The splits, and what their folders may be called."""


class ImageFolder(Source):
    """A folder with a folder of images for each class, directly or below ``train/``, ``val/`` and ``test/``.

    With ``test/``, that is the test split, and ``val/`` (if there is one) the validation split. With ``val/`` alone, it
    is the *test* split, being the number that people report, and validation is held out of train. With neither, both
    are stratified shares. Hidden files and files with other suffixes than those of images are passed over.
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
            ValueError: folders are missing, empty, or differ between splits.
        """
        root = tree(self.absolute().root, "data.root")
        folders, notes = _splits(root)
        classes = root.folders(folders["train"])
        for split, folder in folders.items():
            if (there := root.folders(folder)) != classes:
                raise ValueError(
                    f"{root.name(folder)} and {root.name(folders['train'])} must have the same class folders, but "
                    f"{split} lacks {_few(set(classes) - set(there))} and has besides {_few(set(there) - set(classes))}"
                )
        return classes, {split: _files(root, folder, classes, notes) for split, folder in folders.items()}, notes


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


def _files(root: Tree, folder: str, classes: Sequence[str], notes: list[str]) -> Files:
    paths: list[str] = []
    labels: list[int] = []
    other = 0
    if not classes:
        raise ValueError(f"{root.name(folder)} has no class folders; put each class's images into a folder of its own")
    for label, name in enumerate(classes):
        where = f"{folder}/{name}" if folder else name
        files = list(root.below(where))
        images = [f"{name}/{file}" for file in files if is_image(file)]
        other += len(files) - len(images)
        if not images:
            raise ValueError(
                f"class folder {root.name(where)} has no images ({', '.join(sorted(SUFFIXES))}); fill or remove it"
            )
        paths += sorted(images, key=os.fsencode)
        labels += [label] * len(images)
    if other:
        notes.append(f"{other} files in {root.name(folder)} were passed over: their suffix is not that of an image")
    return root.labelled(folder, paths, np.array(labels, np.int64))


def _few(names: set[str]) -> str:
    return ", ".join(sorted(names)[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "none"

"""A folder of images, a folder a class, as torchvision's ``ImageFolder`` reads it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from jobs.data.prepare import prepare
from jobs.data.sets import Data
from jobs.data.source import Source
from jobs.data.store import Encoded

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2")
)
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""The splits, and what their folders may be called."""


class Files(Encoded):
    """Image files below one folder. Millions of paths are kept as one string of bytes and where each begins."""

    def __init__(self, root: Path, paths: Sequence[bytes], labels: NDArray[np.int64]) -> None:
        self.root, self.labels = os.fsencode(root), labels
        self.text = b"".join(paths)
        self.begins = np.cumsum([0, *map(len, paths)])
        digest = hashlib.blake2b(self.root + self.text + self.begins.tobytes(), digest_size=16)
        for index in range(len(labels)):
            try:
                info = os.stat(self.path(index))
                digest.update(f"{info.st_size} {info.st_mtime_ns},".encode())
            except OSError:
                digest.update(b"missing,")
        self.stamp = digest.hexdigest()

    def path(self, index: int) -> bytes:
        """Where image ``index`` lies."""
        return os.path.join(self.root, self.text[self.begins[index] : self.begins[index + 1]])

    def name(self, index: int) -> str:
        """Its path."""
        return os.fsdecode(self.path(index))

    def encoded(self, index: int) -> bytes:
        """The file's bytes."""
        with open(self.path(index), "rb") as file:
            return file.read()


class ImageFolder(Source):
    """A folder with a folder of images for each class, directly or below ``train/``, ``val/`` and ``test/``.

    With ``test/``, that is the test split, and ``val/`` (if there is one) the validation split. With ``val/`` alone, it
    is the *test* split, being the number that people report, and validation is held out of train. With neither, both
    are stratified shares. Hidden files and files with other suffixes than those of images are passed over.
    """

    kind: Literal["image_folder"] = "image_folder"
    root: str
    """The folder; ``~`` is expanded."""

    def absolute(self) -> Self:
        """With an absolute ``root``."""
        return self.model_copy(update={"root": str(Path(self.root).expanduser().absolute())})

    def open(self) -> Data:
        """List, check and read the files."""
        return prepare(self, *self.stores())

    def stores(self) -> tuple[list[str], dict[str, Files], list[str]]:
        """Class names, the files of each split that there is, and notes; no file is opened.

        Raises:
            ValueError: folders are missing, empty, or differ between splits.
        """
        root = Path(self.absolute().root)
        folders, notes = _splits(root)
        classes = _folders(folders["train"])
        for split, folder in folders.items():
            if (there := _folders(folder)) != classes:
                raise ValueError(
                    f"{folder} and {folders['train']} must have the same class folders, but {split} lacks "
                    f"{_few(set(classes) - set(there))} and has besides {_few(set(there) - set(classes))}"
                )
        return classes, {split: _files(folder, classes, notes) for split, folder in folders.items()}, notes


def _splits(root: Path) -> tuple[dict[str, Path], list[str]]:
    """The folder of each split that there is (all under ``train`` where there are class folders only), and notes."""
    if not root.is_dir():
        near = next(folder for folder in root.parents if folder.is_dir())
        inside = ", ".join(_folders(near)[:10]) or "no folders"
        raise ValueError(f"data.root {root} is not a folder; {near} has {inside}")
    names = _folders(root)
    found = {split: [name for name in names if name.lower() in known] for split, known in SPLITS.items()}
    # a class may be called "train": a folder is that of a split if it holds folders and no images
    split_like = [n for several in found.values() for n in several if _folders(root / n) and not _images(root / n)]
    if not split_like:
        return {"train": root}, []
    for split, several in found.items():
        if len(several) > 1:
            raise ValueError(f"{root} has {' and '.join(several)}, which both mean {split}; keep one")
    if not found["train"]:
        raise ValueError(
            f"{root} has {', '.join(split_like)} but no train folder; name the training images' folder train"
        )
    folders = {split: root / several[0] for split, several in found.items() if several}
    others = [name for name in names if name not in {folder.name for folder in folders.values()}]
    return folders, [f"{root / name} was passed over: it is no split" for name in others]


def _files(folder: Path, classes: Sequence[str], notes: list[str]) -> Files:
    paths: list[bytes] = []
    labels: list[int] = []
    other = 0
    if not classes:
        raise ValueError(f"{folder} has no class folders; put each class's images into a folder of its own")
    for label, name in enumerate(classes):
        inside: list[bytes] = []
        for where, subfolders, files in os.walk(folder / name):
            subfolders[:] = [sub for sub in subfolders if not sub.startswith(".")]
            seen = [file for file in files if not file.startswith(".")]
            images = [file for file in seen if os.path.splitext(file)[1].lower() in SUFFIXES]
            other += len(seen) - len(images)
            inside += [os.fsencode(os.path.relpath(os.path.join(where, file), folder)) for file in images]
        if not inside:
            raise ValueError(
                f"class folder {folder / name} has no images ({', '.join(sorted(SUFFIXES))}); fill or remove it"
            )
        paths += sorted(inside)
        labels += [label] * len(inside)
    if other:
        notes.append(f"{other} files in {folder} were passed over: their suffix is not that of an image")
    return Files(folder, paths, np.array(labels, np.int64))


def _few(names: set[str]) -> str:
    return ", ".join(sorted(names)[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "none"


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(os.path.splitext(entry.name)[1].lower() in SUFFIXES for entry in entries)

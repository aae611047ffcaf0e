"""Folders of images, on this machine or elsewhere, as an image folder looks at them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.data.files import Files, RemoteFiles
from jobs.data.remote import Object, listing
from jobs.urls import is_url, local, refused

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2")
)


def is_image(name: str) -> bool:
    """Whether a file's suffix is that of an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


class Tree(Protocol):
    """A folder and all below it. Folders in it are given by their paths from there; the empty one is the folder."""

    def name(self, folder: str) -> str:
        """Where a folder lies, for people."""
        ...

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder that are not hidden, sorted."""
        ...

    def files(self, folder: str) -> list[str]:
        """Names of the files in a folder, unsorted."""
        ...

    def below(self, folder: str) -> Iterator[str]:
        """Paths from ``folder`` of all files below it that are not hidden nor in a hidden folder, unsorted."""
        ...

    def labelled(self, folder: str, paths: Sequence[str], labels: NDArray[np.int64]) -> Files:
        """Files, by their paths from ``folder``, to be read."""
        ...


def tree(root: str, what: str) -> Tree:
    """The folder of that path or URL.

    Args:
        root: absolute path or URL.
        what: the field that gives it, for errors.

    Raises:
        ValueError: it is no folder; the message says what there is.
    """
    return RemoteTree(root, what) if is_url(root) else LocalTree(local(root), what)


class LocalTree:
    """A folder on this machine, looked at whenever it is asked."""

    def __init__(self, root: str, what: str) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            near = next(folder for folder in self.root.parents if folder.is_dir())
            inside = ", ".join(LocalTree(str(near), what).folders("")[:10]) or "no folders"
            raise ValueError(f"{what} {root} is not a folder; {near} has {inside}")

    def name(self, folder: str) -> str:
        """Its path."""
        return str(self.root / folder)

    def folders(self, folder: str) -> list[str]:
        """Links to folders too."""
        with os.scandir(self.root / folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))

    def files(self, folder: str) -> list[str]:
        """Links to files too."""
        with os.scandir(self.root / folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]

    def below(self, folder: str) -> Iterator[str]:
        """Links to folders are not followed."""
        top = self.root / folder
        for where, inner, files in os.walk(top):
            inner[:] = [name for name in inner if not name.startswith(".")]
            for file in files:
                if not file.startswith("."):
                    yield os.path.relpath(os.path.join(where, file), top)

    def labelled(self, folder: str, paths: Sequence[str], labels: NDArray[np.int64]) -> Files:
        """Read where they are."""
        return Files(self.root / folder, list(map(os.fsencode, paths)), labels)


class RemoteTree:
    """A folder at a URL, looked at once, when it is opened."""

    def __init__(self, url: str, what: str) -> None:
        self.url, self.what = url.rstrip("/"), what
        self.known: dict[str, tuple[list[str], dict[str, Object]]] = {}
        level = [""]
        while level:
            found = listing(self.url, level, what)
            self.known.update(found)
            level = [_join(where, name) for where in level for name in found[where][0] if not name.startswith(".")]
        if self.known[""] == ([], {}):
            raise refused(url, what, FileNotFoundError())

    def name(self, folder: str) -> str:
        """Its URL."""
        return _join(self.url, folder)

    def folders(self, folder: str) -> list[str]:
        """As they were."""
        return [name for name in self.known[folder][0] if not name.startswith(".")]

    def files(self, folder: str) -> list[str]:
        """As they were."""
        return list(self.known[folder][1])

    def below(self, folder: str) -> Iterator[str]:
        """As they were."""
        for inner in self.folders(folder):
            for path in self.below(_join(folder, inner)):
                yield _join(inner, path)
        for name in self.files(folder):
            if not name.startswith("."):
                yield name

    def labelled(self, folder: str, paths: Sequence[str], labels: NDArray[np.int64]) -> RemoteFiles:
        """Read from copies on this machine; nothing is fetched yet."""
        objects = []
        for path in paths:
            where, _, name = _join(folder, path).rpartition("/")
            objects.append(self.known[where][1][name])
        return RemoteFiles(self.name(folder), list(map(os.fsencode, paths)), labels, objects, self.what)


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)

"""Folders of images, on this machine or elsewhere, as an image folder looks at them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.data.files import Files, RemoteFiles
from jobs.data.listing import encoded_paths, files_below, is_file, is_folder, is_within
from jobs.data.remote import Object, listing
from jobs.names import printable
from jobs.urls import is_url, local, refused


class Tree(Protocol):
    """A folder and all below it. Folders in it are given by their paths from there; the empty one is the folder.

    Attributes:
        notes: what a person should know of what was listed so far: links that were followed, what was passed over.
    """

    notes: list[str]

    def name(self, folder: str) -> str:
        """Where a folder is, for people."""
        ...

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder that are not hidden, sorted."""
        ...

    def files(self, folder: str) -> list[str]:
        """Names of the files in a folder that are not hidden, unsorted."""
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
        self.root, self.notes = Path(root), list[str]()
        if not self.root.is_dir():
            near = next(folder for folder in self.root.parents if folder.is_dir())
            inside = ", ".join(LocalTree(str(near), what).folders("")[:10]) or "no folders"
            raise ValueError(f"{what} {root} is not a folder; {near} has {inside}")

    def name(self, folder: str) -> str:
        """Its path."""
        return printable(str(self.root / folder))

    def folders(self, folder: str) -> list[str]:
        """Links to folders too, but not to one that the folder itself is in."""
        here = os.path.realpath(self.root / folder)
        with os.scandir(here) as entries:
            found = sorted((entry for entry in entries if entry.name[0] != "." and is_folder(entry)), key=_name)
        circles = [entry for entry in found if entry.is_symlink() and is_within(here, os.path.realpath(entry.path))]
        for entry in circles:
            self._note(f"{entry.path} was passed over: it is a link to a folder that holds it")
        return [entry.name for entry in found if entry not in circles]

    def files(self, folder: str) -> list[str]:
        """Links to files too."""
        with os.scandir(self.root / folder) as entries:
            return [entry.name for entry in entries if entry.name[0] != "." and is_file(entry)]

    def below(self, folder: str) -> Iterator[str]:
        """See :func:`jobs.data.listing.files_below`."""
        top = self.root / folder
        return files_below(
            str(top),
            lambda path, why: self._note(f"{top / path} was passed over: {why}"),
            lambda path, target: self._note(f"{top / path} is a link, and the images in {target} were read too"),
        )

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def labelled(self, folder: str, paths: Sequence[str], labels: NDArray[np.int64]) -> Files:
        """Read where they are."""
        return Files(self.root / folder, encoded_paths(paths), labels)


class RemoteTree:
    """A folder at a URL, looked at once, when it is opened."""

    def __init__(self, url: str, what: str) -> None:
        self.url, self.what, self.notes = url.rstrip("/"), what, list[str]()
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
        return [name for name in self.known[folder][1] if not name.startswith(".")]

    def below(self, folder: str) -> Iterator[str]:
        """As they were."""
        for inner in self.folders(folder):
            for path in self.below(_join(folder, inner)):
                yield _join(inner, path)
        yield from self.files(folder)

    def labelled(self, folder: str, paths: Sequence[str], labels: NDArray[np.int64]) -> RemoteFiles:
        """Read from copies on this machine; nothing is fetched yet."""
        objects = []
        for path in paths:
            where, _, name = _join(folder, path).rpartition("/")
            objects.append(self.known[where][1][name])
        return RemoteFiles(self.name(folder), encoded_paths(paths), labels, objects, self.what)


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)

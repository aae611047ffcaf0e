"""Image files below one folder, on this machine or elsewhere."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from jobs.data.decode import UnreadableError
from jobs.data.remote import Object, fetch, folder, listing
from jobs.data.store import Encoded
from jobs.urls import is_url, local
from jobs.words import byte_size

_MOST_BYTES = 2**31


def opened(path: str | bytes) -> IO[bytes]:
    """An image file, opened for reading; neither a pipe nor a device, on which a reader could wait for ever.

    Raises:
        OSError: it is not there, or may not be read.
        UnreadableError: it is no regular file, or larger than any image.
    """
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode):
        raise UnreadableError("not a regular file (a pipe, a device, a socket or a folder)")
    if info.st_size > _MOST_BYTES:
        raise UnreadableError(f"{byte_size(info.st_size)} are more than an image has; at most 2 GB are read")
    return open(path, "rb")


class Files(Encoded):
    """Image files below one folder. Millions of paths are kept as one string of bytes and where each begins.

    Attributes:
        lengths: int64 ``(N,)``: bytes of each, -1 of what was not there when they were looked at.
        missing: how many were not there.
    """

    def __init__(self, root: str | os.PathLike[str], paths: Sequence[bytes], labels: NDArray[np.int64]) -> None:
        self.root, self.labels = os.fsencode(root), labels
        self.text = b"".join(paths)
        self.begins = np.cumsum([0, *map(len, paths)])
        self.lengths, version = self._look(paths)
        self.missing = int((self.lengths < 0).sum())
        listed = hashlib.blake2b(self.text, digest_size=16)
        listed.update(self.begins.tobytes() + self.lengths.tobytes())
        self.listed = listed.hexdigest()
        self.stamp = hashlib.blake2b(self.root + version, key=listed.digest(), digest_size=16).hexdigest()

    def _look(self, paths: Sequence[bytes]) -> tuple[NDArray[np.int64], bytes]:
        """Lengths in bytes, -1 of what is not there; and what changes with any of the files."""
        lengths, times, folder = array("q"), array("q"), os.path.join(self.root, b"")
        for path in paths:
            try:
                info = os.stat(path if path.startswith(b"/") else folder + path)
            except OSError:
                lengths.append(-1)
                times.append(0)
            else:
                lengths.append(info.st_size)
                times.append(info.st_mtime_ns)
        return np.array(lengths, np.int64), times.tobytes()

    def path(self, index: int) -> bytes:
        """Where image ``index`` is."""
        return os.path.join(self.root, self.text[self.begins[index] : self.begins[index + 1]])

    def name(self, index: int) -> str:
        """Its path."""
        return os.fsdecode(self.path(index))

    def encoded(self, index: int) -> bytes:
        """The file's bytes."""
        with self.open(index) as file:
            return file.read()

    def open(self, index: int) -> IO[bytes]:
        """The file, opened.

        Raises:
            OSError: it is not there, or may not be read.
            UnreadableError: it is no regular file, or larger than any image.
        """
        return opened(self.path(index))


class RemoteFiles(Files):
    """Image files below a URL; read from their copies on this machine (``jobs.data.remote``).

    Args:
        url: the folder.
        paths: of the images, from there.
        labels: int64 ``(N,)``.
        objects: what they were when they were looked at; None for what is not there.
        what: the field that gives the URL, for errors.
    """

    def __init__(
        self,
        url: str,
        paths: Sequence[bytes],
        labels: NDArray[np.int64],
        objects: Sequence[Object | None],
        what: str,
    ) -> None:
        self.what = what
        self.sizes = np.array([-1 if each is None else each.size for each in objects], np.int64)
        self.versions = np.array([b"" if each is None else os.fsencode(each.version) for each in objects], np.bytes_)
        super().__init__(url, paths, labels)
        held = int(self.sizes[self.sizes >= 0].sum())
        self.note = f"{len(labels)} files, {byte_size(held)}, of {url} are kept on every machine that reads them"

    def _look(self, paths: Sequence[bytes]) -> tuple[NDArray[np.int64], bytes]:
        return self.sizes, self.versions.tobytes()

    def open(self, index: int) -> IO[bytes]:
        """Its copy."""
        return Encoded.open(self, index)

    def here(self) -> None:
        """Fetch what is missing; a note is kept when all is here, since looking at millions of files takes long."""
        note = Path(folder(), "whole", str(self.stamp))
        if note.exists():
            return
        objects = (self._object(index) for index in range(len(self)) if self.sizes[index] >= 0)
        fetch(objects, os.fsdecode(self.root), self.what)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()

    def encoded(self, index: int) -> bytes:
        """The bytes of its copy, which is fetched where somebody deleted it."""
        if self.sizes[index] < 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name(index))
        found = self._object(index)
        copy = Path(found.copy(folder()))
        try:
            return copy.read_bytes()
        except FileNotFoundError:
            fetch([found], os.fsdecode(self.root), self.what)
            return copy.read_bytes()

    def _object(self, index: int) -> Object:
        return Object(self.name(index), int(self.sizes[index]), os.fsdecode(self.versions[index]))


def named(root: str, names: Sequence[str], labels: NDArray[np.int64], what: str) -> Files:
    """The image files that a table names: by paths from ``root``, or all by full paths, or all by URLs of one server.

    Args:
        root: folder or URL.
        names: of the files.
        labels: int64 ``(N,)``.
        what: the field that gives them, for errors.

    Raises:
        ValueError: the names are of several kinds, or the server cannot be asked.
    """
    hosts = {"/".join(name.split("/", 3)[:3]) if is_url(name) else "" for name in names}
    if len(hosts) > 1:
        raise ValueError(
            f"{what} names images in {' and '.join(sorted(host or 'no URL' for host in hosts)[:3])}; "
            "name them all by paths from data.root, or all by URLs that begin alike"
        )
    if host := next(iter(hosts), ""):
        root, names = host, [name[len(host) + 1 :] for name in names]
    if not is_url(root):
        return Files(local(root), [os.fsencode(local(name) if "://" in name else name) for name in names], labels)
    if strange := [name for name in names if name.startswith("/")]:
        raise ValueError(
            f"{what} names {strange[0]}, a path on this machine, but its images start at {root}; name them from there"
        )
    names = [posixpath.normpath(name) for name in names]
    split = [posixpath.split(name) for name in names]
    found = listing(root, sorted({folder for folder, _ in split}), what)
    return RemoteFiles(
        root, [os.fsencode(name) for name in names], labels, [found[where][1].get(last) for where, last in split], what
    )

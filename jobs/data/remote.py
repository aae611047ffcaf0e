"""Files that lie elsewhere (``s3://``, ``gs://``, ...), kept on this machine once they were asked for.

An object is kept under ``ORCHESTRATOR_HOME/cache/remote`` by its URL and version (ETag, size, time of change), so it is
fetched once a machine, whatever the number of workers, jobs and data sets that read it, and anew where it changed. It
takes its place there when it is whole: what a kill cuts short is fetched again, and nothing else.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.data.cache import cached, key
from jobs.lock import LONG_S, Lock
from jobs.urls import filesystem, lacks_bucket, refused
from jobs.words import byte_size

logger = logging.getLogger(__name__)

_VERSIONS = ("ETag", "md5Hash", "etag", "generation", "LastModified", "last_modified", "mtime", "updated", "created")
"""What file systems call that which changes with a file; the first that there is stands for it."""
_AT_ONCE, _AT_ONCE_BYTES = 256, 2**30
"""Files, and bytes, that are fetched side by side before they take their places."""
_LISTED_AT_ONCE = 32


@dataclass(frozen=True)
class Object:
    """A file elsewhere, as it was when it was looked at.

    Attributes:
        url: where it lies.
        size: bytes.
        version: changes with its content.
    """

    url: str
    size: int
    version: str

    @classmethod
    def of(cls, url: str, info: Mapping[str, Any]) -> Object:
        """From what fsspec says of it."""
        version = next((str(info[name]) for name in _VERSIONS if info.get(name) is not None), "")
        return cls(url, int(info.get("size") or 0), version)

    def copy(self, folder: str) -> str:
        """Where in :func:`folder` it is kept, with its suffix; it need not be there."""
        name, suffix = key(self.url, self.size, self.version), os.path.splitext(self.url)[1]
        return f"{folder}/{name[:2]}/{name[2:]}{suffix if suffix[1:].isalnum() else ''}"


def folder() -> str:
    """Where copies are kept; it need not be there."""
    return str(cached("remote", "", ""))


def look(url: str, what: str) -> Object:
    """One file.

    Raises:
        ValueError: it is not there, or cannot be had.
    """
    fs, inside = filesystem(url, what)
    try:
        info = fs.info(inside)
    except Exception as error:  # each library has its own
        raise refused(url, what, error) from error
    if info["type"] == "directory":
        raise ValueError(f"{what} {url} is a folder; give a file in it")
    return Object.of(url, info)


def here(url: str, what: str) -> Path:
    """The copy of one file on this machine, fetched where it is missing.

    Raises:
        ValueError: it cannot be had, or this disk cannot hold it.
    """
    filesystem(url, what)[0].invalidate_cache()
    found = look(url, what)
    fetch([found], url, what)
    return Path(found.copy(folder()))


def listing(url: str, folders: Sequence[str], what: str) -> dict[str, tuple[list[str], dict[str, Object]]]:
    """Names of the folders, and the files by their names, in each of several folders, asked for side by side.

    Args:
        url: the folder that they lie in.
        folders: paths from there; empty for the folder itself. What is not there has nothing in it.
        what: the field that gives the URL, for errors.

    Raises:
        ValueError: the server does not answer, or does not let us in.
    """
    fs, inside = filesystem(url, what)
    fs.invalidate_cache()

    def one(folder: str) -> tuple[list[str], dict[str, Object]]:
        path = "/".join(filter(None, (inside, folder)))
        inner: list[str] = []
        files: dict[str, Object] = {}
        try:
            entries = fs.ls(path, detail=True)
        except FileNotFoundError as error:
            if lacks_bucket(error):
                raise refused(url, what, error) from error
            return inner, files
        except Exception as error:  # each library has its own
            raise refused(url, what, error) from error
        for entry in entries:
            name = entry["name"].rstrip("/")
            if name == path.rstrip("/"):  # the marker that some tools leave for a folder; or a file of that name
                continue
            last = name.rsplit("/", 1)[-1]
            if entry["type"] == "directory":
                inner.append(last)
            else:
                files[last] = Object.of("/".join(filter(None, (url.rstrip("/"), folder, last))), entry)
        return sorted(inner), files

    with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:
        return dict(zip(folders, pool.map(one, folders), strict=True))


def fetch(objects: Iterable[Object], title: str, what: str, besides: int = 0) -> None:
    """Make sure that the copies are here and whole; of several processes one fetches, and the others wait for it.

    Args:
        objects: what is wanted.
        title: the URL that stands for all of them.
        what: the field that gives it, for errors.
        besides: bytes that are wanted on the disk besides.

    Raises:
        ValueError: one cannot be had, or this disk cannot hold them.
    """
    target = folder()
    missing = _missing(objects, target)
    if not missing:
        return
    os.makedirs(target, exist_ok=True)
    with Lock(Path(target, f".{key(title)}.lock"), LONG_S):
        missing = _missing(missing, target)
        _check_room(target, sum(each.size for each in missing) + besides, title, what)
        beside = Path(target, f".{key(title)}.part")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            for several in _portions(missing):
                _fetch(several, beside, target, what)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _missing(objects: Iterable[Object], target: str) -> list[Object]:
    return [each for each in dict.fromkeys(objects) if not _whole(each.copy(target), each.size)]


def _whole(path: str | Path, size: int) -> bool:
    try:
        return os.stat(path).st_size == size
    except FileNotFoundError:
        return False


def _check_room(target: str, needed: int, title: str, what: str) -> None:
    free = shutil.disk_usage(target).free
    if needed > free:
        raise ValueError(
            f"{what} {title}: {byte_size(needed)} are to be fetched, but the disk of {target} has "
            f"{byte_size(free)} free; set ORCHESTRATOR_HOME to a larger disk, or delete its cache folder"
        )
    if needed:
        logger.info("fetching %s from %s", byte_size(needed), title)


def _portions(objects: Sequence[Object]) -> Iterator[list[Object]]:
    several: list[Object] = []
    for each in objects:
        if several and (len(several) == _AT_ONCE or sum(other.size for other in several) + each.size > _AT_ONCE_BYTES):
            yield several
            several = []
        several.append(each)
    if several:
        yield several


def _fetch(objects: Sequence[Object], beside: Path, target: str, what: str) -> None:
    """Fetch side by side into the folder ``beside``; what is whole takes its place."""
    beside.mkdir(parents=True, exist_ok=True)
    fs, _ = filesystem(objects[0].url, what)
    parts = [beside / str(number) for number in range(len(objects))]
    try:
        fs.get([fs._strip_protocol(each.url) for each in objects], list(map(str, parts)))
    except Exception as error:  # each library has its own
        raise refused(objects[0].url, what, error) from error
    for each, part in zip(objects, parts, strict=True):
        if not _whole(part, each.size):
            raise ValueError(
                f"{each.url} is no longer {each.size} bytes long; it changed while it was fetched, try again"
            )
        copy = each.copy(target)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        os.replace(part, copy)

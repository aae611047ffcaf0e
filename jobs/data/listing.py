"""Image files below folders, in order, without a list of all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from jobs.data.formats import is_image


def images_below(folder: str, passed_over: Callable[[str], None] = lambda path: None) -> Iterator[str]:
    """Paths of the images below a folder, sorted folder by folder; see :func:`files_below`.

    Args:
        folder: where to look.
        passed_over: called with the path of each file whose suffix is not that of an image, and of what is neither a
            file nor a folder that can be listed.
    """
    for path in files_below(folder, lambda path, why: passed_over(os.path.join(folder, path))):
        if is_image(path):
            yield os.path.join(folder, path)
        else:
            passed_over(os.path.join(folder, path))


def files_below(
    top: str,
    passed_over: Callable[[str, str], None] = lambda path, why: None,
    followed: Callable[[str, str], None] = lambda path, target: None,
) -> Iterator[str]:
    """Paths, from ``top``, of all files below it, sorted folder by folder; a few folders' names are in memory.

    Hidden files and folders are left out. A link to a folder is followed, once a target, unless it leads to what is
    read anyway (into ``top``) or to a folder that ``top`` is in. Pipes, sockets and devices are no files; links that
    lead nowhere are, for reading them says what is wrong.

    Args:
        top: where to look.
        passed_over: called with the path from ``top`` of what is left out, and why.
        followed: called with the path from ``top`` of a link to a folder elsewhere, and with that folder.
    """
    real, targets = os.path.realpath(top), list[str]()
    waiting = [("", True)]
    while waiting:
        path, listed = waiting.pop()
        if not listed:
            yield path
            continue
        try:
            with os.scandir(os.path.join(top, path)) as entries:
                found = sorted((entry for entry in entries if entry.name[0] != "."), key=attrgetter("name"))
        except OSError as error:
            passed_over(path, f"it cannot be listed ({error.strerror})")
            continue
        inside: list[tuple[str, bool]] = []
        prefix = os.path.join(path, "")
        for entry in found:
            inner = prefix + entry.name
            if entry.is_file(follow_symlinks=False):  # as nearly all are, by the millions
                inside.append((inner, False))
                continue
            if not is_folder(entry):
                if is_file(entry):
                    inside.append((inner, False))
                else:
                    passed_over(inner, "it is no file (a pipe, a socket or a device)")
                continue
            if entry.is_symlink():
                target = os.path.realpath(entry.path)
                if is_within(real, target) or any(is_within(target, known) for known in (real, *targets)):
                    passed_over(inner, f"it is a link to {target}, which is read anyway or holds this folder")
                    continue
                targets.append(target)
                followed(inner, target)
            inside.append((inner, True))
        if any(listed for _, listed in inside):
            waiting += reversed(inside)
        else:
            yield from (inner for inner, _ in inside)


def encoded_paths(paths: Sequence[str]) -> list[bytes]:
    """What ``os.fsencode`` makes of each, all at once: it takes a microsecond a path."""
    text = "\0".join(paths).encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
    return text.split(b"\0") if paths else []


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a folder that is closed
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a regular file, a link to one, or a link that leads nowhere."""
    return not os.path.exists(entry.path) if entry.is_symlink() and not os.path.isfile(entry.path) else entry.is_file()


def is_within(path: str, folder: str) -> bool:
    """Whether a real path is that of a folder or lies in it."""
    return path == folder or path.startswith(os.path.join(folder, ""))

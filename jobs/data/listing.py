"""Image files below folders, in order, without a list of all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from jobs.data.tree import is_image


def images_below(folder: str, passed_over: Callable[[str], None] = lambda path: None) -> Iterator[str]:
    """Paths of the images below a folder, sorted folder by folder; the names of one folder at a time are in memory.

    Hidden files and folders are left out. Links to folders are followed, unless they lead back to where they are.

    Args:
        folder: where to look.
        passed_over: called with the path of each file whose suffix is not that of an image, and of each folder that
            cannot be listed.
    """
    return _below(folder, passed_over, ())


def _below(folder: str, passed_over: Callable[[str], None], above: tuple[str, ...]) -> Iterator[str]:
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries if entry.name[0] != ".")
    except OSError:
        passed_over(folder)
        return
    for name, inner in found:
        path = os.path.join(folder, name)
        if inner:
            yield from _below(path, passed_over, (*above, here))
        elif is_image(name):
            yield path
        else:
            passed_over(path)

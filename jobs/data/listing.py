"""Image files below folders, in order, without a list of all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from jobs.data.tree import is_image


def images_below(folder: str, passed_over: Callable[[str], None] = lambda path: None) -> Iterator[str]:
    """Paths of the images below a folder, sorted folder by folder; the names of one folder at a time are in memory.

    Hidden files and folders are left out, and links to folders are not followed, as in training.

    Args:
        folder: where to look.
        passed_over: called with the path of each other file, whose suffix is not that of an image.
    """
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if entry.name[0] != ".")
    for name, inner in found:
        path = os.path.join(folder, name)
        if inner:
            yield from images_below(path, passed_over)
        elif is_image(name):
            yield path
        elif not os.path.isdir(path):
            passed_over(path)

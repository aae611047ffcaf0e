"""Labelled images in shards, for a model that is trained already."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.data import parquet
from jobs.data.remote import listing
from jobs.data.shards.index import INDEX
from jobs.data.shards.source import Shards
from jobs.data.shards.store import ShardStore
from jobs.names import composed, few
from jobs.urls import is_url, local

_TAR = ".tar"


def shard_files(path: str) -> list[str]:
    """The tar files that a path means: itself, those of a glob, or those of a folder that has an index or no folders in
    it; none where it means something else.

    Raises:
        ValueError: it cannot be looked at, or names no file.
    """
    if path.lower().endswith(_TAR):
        return parquet.files("--data", path)
    if any(mark in path for mark in "*?["):
        return []
    folders, files = _inside(path)
    if folders and not any(file.endswith(f"/{INDEX}") for file in files):
        return []
    return sorted(file for file in files if file.lower().endswith(_TAR))


def labelled_shards(
    path: str, files: Sequence[str], label: str | None, classes: Sequence[str]
) -> tuple[ShardStore, list[str]]:
    """The images of tar files, their labels as ``classes`` counts them, and notes.

    Those of a folder that ``orchestrator shards`` wrote are read by its index, of others each file is read once.

    Args:
        path: that means the files.
        files: of one split.
        label: the key of labels in ``.json`` files; None is ``label``.
        classes: of the model.

    Raises:
        ValueError: they are of several splits, or of a part of one; there are labels that the model does not know.
    """
    folder = files[0].rpartition("/")[0]
    if f"{folder}/{INDEX}" in _inside(folder)[1]:
        names, store = _written(path, folder, files)
        store.labels = renumbered(store.labels, names, classes, path)
        return store, []
    names, stores, notes = Shards(train=tuple(files), label_column=label or "label").stores()
    store = stores["train"]
    own = {composed(name) for name in classes}
    if all(name.isdecimal() and int(name) < len(classes) for name in names) and not own & set(map(composed, names)):
        notes.append("the shards name no classes; their labels are read as the numbers of the model's")
        store.labels = np.array(list(map(int, names)), np.int64)[store.labels]
        return store, notes
    store.labels = renumbered(store.labels, names, classes, path)
    return store, notes


def _inside(folder: str) -> tuple[list[str], list[str]]:
    """Folders and files in it; none where it is no folder."""
    if is_url(folder):
        folders, files = listing(folder, [""], "--data")[""]
        return folders, [each.url for each in files.values()]
    folder = local(folder)
    entries = list(os.scandir(folder)) if os.path.isdir(folder) else []
    return [each.path for each in entries if each.is_dir()], [each.path for each in entries if each.is_file()]


def _written(path: str, folder: str, files: Sequence[str]) -> tuple[list[str], ShardStore]:
    """The split whose files these are."""
    names, stores, _ = Shards(root=folder if is_url(folder) else os.path.abspath(folder)).stores()
    meant = {file.rpartition("/")[2] for file in files}
    own = {split: {shard.url.rpartition("/")[2] for shard in store.shards} for split, store in stores.items()}
    if chosen := next((split for split, shards in own.items() if shards == meant), None):
        return names, stores[chosen]
    globs = ", ".join(f"{folder}/{split}-*{_TAR}" for split in reversed(own))
    raise ValueError(f"{path} is not one split of the shards in {folder}; name one: {globs}")


def renumbered(
    labels: NDArray[np.int64], names: Sequence[str], classes: Sequence[str], title: str
) -> NDArray[np.int64]:
    """Labels that count ``names``, as the model counts them.

    Raises:
        ValueError: there are labels of classes that the model does not know.
    """
    known = {composed(name): number for number, name in enumerate(classes)}
    occurring = [names[label] for label in np.unique(labels).tolist()]
    if unknown := [name for name in occurring if composed(name) not in known]:
        raise ValueError(
            f"{title} has classes that the model does not know: {few(unknown)}; its classes are {few(classes)}. "
            "Leave their rows out"
        )
    return np.array([known.get(composed(name), -1) for name in names], np.int64)[labels]

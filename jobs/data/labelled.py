"""Labelled images from outside, for a model that is trained already: its classes, its size, its channels."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jobs.data import parquet
from jobs.data.columns import is_text
from jobs.data.files import Files
from jobs.data.formats import is_image
from jobs.data.image_folder import SPLITS
from jobs.data.prepare import MEMORY_BYTES
from jobs.data.remote import listing
from jobs.data.row_tables import ParquetTable
from jobs.data.rows import Rows
from jobs.data.scan import scan
from jobs.data.sets import Arrays, Split
from jobs.data.shards.labelled import labelled_shards, renumbered, shard_files
from jobs.data.store import Encoded, Store
from jobs.data.streamed import Streamed
from jobs.data.table import PathTable
from jobs.data.tree import tree
from jobs.names import composed, few, printable
from jobs.urls import is_url, local

if TYPE_CHECKING:
    from jobs.models import LoadedModel

log = logging.getLogger(__name__)

_SHOWN = 10


@dataclass(frozen=True)
class Labelled:
    """Labelled images for a model.

    Attributes:
        split: the images, fitted or to be fitted as the model's own were; labels are numbers of its classes.
        names: where the images are, by their number in the split.
        skipped: those that cannot be read, and why.
        notes: what a person should know of how the set was read.
    """

    split: Split
    names: Sequence[str]
    skipped: Sequence[str] = ()
    notes: Sequence[str] = ()


class Names(Sequence[str]):
    """Names of some images of a store, made when they are asked for."""

    def __init__(self, store: Store, picks: NDArray[np.int64]) -> None:
        self.store, self.picks = store, picks

    def __len__(self) -> int:
        """Number of images."""
        return len(self.picks)

    def __getitem__(self, at: int) -> str:  # type: ignore[override]
        """The name of one."""
        return self.store.name(int(self.picks[at]))


def open_labelled(
    path: str, model: LoadedModel, max_corrupt: int = 0, columns: tuple[str | None, str | None] = (None, None)
) -> Labelled:
    """Labelled images in a folder with a folder a class, in Parquet files, in shards, or in files that a table names.

    Args:
        path: folder of class folders, folder of Parquet files, Parquet file, or a glob of such files; CSV, TSV or
            Parquet file of paths and classes; tar file or a glob of tar files; or a URL of one.
        model: whose classes are meant, and whose size, channels and crop hold.
        max_corrupt: how many unreadable images may be left out.
        columns: of files: that of the images or of their paths, and that of the labels; None is ``image`` or ``path``,
            and ``label``.

    Raises:
        ValueError: there are no labelled images, labels that the model does not know, or too many unreadable images.
    """
    shards = shard_files(path)
    files = [] if shards else _parquet_files(path)
    store: Encoded
    if shards:
        store, notes = labelled_shards(path, shards, columns[1], model.classes)
    elif _is_table(path, files, columns[0] or "path"):
        store, notes = _table(path, columns, model.classes)
    elif files:
        store, notes = _rows(files, (columns[0] or "image", columns[1] or "label"), model.classes)
    else:
        store, notes = _folder(path, model.classes)
    if not len(store):
        raise ValueError(f"{path} has no labelled images; {'; '.join(notes) or 'give another folder'}")
    store.exif_orientation = model.exif_orientation
    keep = len(store) * model.size**2 * model.channels <= MEMORY_BYTES
    found = scan(store, model.size, model.channels, keep, model.crop_ratio)
    skipped = [f"{printable(store.name(index))}: {reason}" for index, reason in sorted(found.errors.items())]
    if len(skipped) > max_corrupt or len(skipped) == len(store):
        shown = "".join(f"\n  {line}" for line in skipped[:_SHOWN]) + ("\n  ..." if len(skipped) > _SHOWN else "")
        raise ValueError(
            f"{len(skipped)} of {len(store)} images cannot be read:{shown}\nmend or remove them, or allow for "
            f"{len(skipped)} that are left out (--max-corrupt, now {max_corrupt})"
        )
    for line in skipped:
        log.warning("left out an image that cannot be read: %s", line)
    good = found.good
    counts = np.bincount(store.labels[good], minlength=len(model.classes))
    if missing := [name for name, count in zip(model.classes, counts, strict=True) if not count]:
        notes = [*notes, f"no images of {len(missing)} of the {len(model.classes)} classes: {few(missing)}"]
    split: Split = Streamed(store, good, model.channels)
    if found.pixels is not None:
        split = Arrays(found.pixels if len(good) == len(store) else found.pixels[good], store.labels[good])
    return Labelled(split, Names(store, good), skipped, notes)


def _is_table(path: str, files: Sequence[str], column: str) -> bool:
    """Whether a path means a table of paths, which are in that column."""
    if path.lower().endswith((".csv", ".tsv", ".txt")):
        return is_url(path) or os.path.isfile(local(path))
    if len(files) != 1 or is_url(path):
        return False
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(files[0])
    except (OSError, pa.ArrowInvalid):
        return False  # who reads its rows says what is wrong
    return schema.names.count(column) == 1 and is_text(schema.field(column).type)


def _table(path: str, columns: tuple[str | None, str | None], classes: Sequence[str]) -> tuple[Encoded, list[str]]:
    fields = {name: column for name, column in zip(("path_column", "label_column"), columns, strict=True) if column}
    names, stores, notes = PathTable(train=path, **fields).stores()
    store = stores["train"]
    store.labels = renumbered(store.labels, names, classes, path)
    return store, notes


def _folder(path: str, classes: Sequence[str]) -> tuple[Files, list[str]]:
    root = path if is_url(path) else local(path)
    if not is_url(path) and not os.path.isdir(root):
        raise ValueError(f"{path} is no folder of class folders, no table and no Parquet file; give one of them")
    place = tree(root, "--data")
    known = {composed(name): number for number, name in enumerate(classes)}
    folders = place.folders("")
    if unknown := [name for name in folders if composed(name) not in known]:
        splits = [name for name in unknown if any(name.lower() in words for words in SPLITS.values())]
        cure = (
            f"{', '.join(splits)} look like splits: give one of them, {os.path.join(path, splits[0])}"
            if splits
            else "rename the folders to the model's classes, or leave them out"
        )
        raise ValueError(
            f"{path} has folders that are no classes of the model: {few(unknown)}; its classes are "
            f"{few(classes)}. {cure[0].upper()}{cure[1:]}"
        )
    paths: list[str] = []
    labels: list[int] = []
    others: list[str] = []
    for name in folders:
        files = sorted(f"{name}/{file}" for file in place.below(name))
        others += [f"{path}/{file}" for file in files if not is_image(file)]
        files = [file for file in files if is_image(file)]
        paths += files
        labels += [known[composed(name)]] * len(files)
    notes = [f"{len(others)} files passed over, their suffix is not that of an image: {few(others)}"] if others else []
    if unlabelled := sorted(filter(is_image, place.files(""))):
        notes.append(f"{len(unlabelled)} images are in no class folder and were left out: {few(unlabelled)}")
    notes += place.notes
    return place.labelled("", paths, np.array(labels, np.int64)), notes


def _rows(files: Sequence[str], columns: tuple[str, str], classes: Sequence[str]) -> tuple[Rows, list[str]]:
    table = ParquetTable.of(files, *columns)
    table.check(("--image-column", "--label-column"))
    store = Rows(table)
    names = store.classes
    notes = [f"{len(files)} files: {few(files)}"] if len(files) > 1 else []
    if names is None:
        names = tuple(classes)
        notes.append("the files name no classes; their labels are read as the numbers of the model's")
    outside = np.flatnonzero((store.labels < 0) | (store.labels >= len(names)))
    if len(outside):
        raise ValueError(
            f"{table.where(int(outside[0]))}: label {store.labels[outside[0]]} is not in 0 .. {len(names) - 1} (and "
            f"{len(outside) - 1} more such rows); label the rows, or take them out"
        )
    store.labels = renumbered(store.labels, names, classes, files[0])
    return store, notes


def _parquet_files(path: str) -> list[str]:
    """The Parquet files that a path means; none where it means something else."""
    inside = path if is_url(path) else local(path)
    if is_url(path) and (path.lower().endswith(".parquet") or any(mark in path for mark in "*?[")):
        return parquet.files("--data", path)
    if is_url(path) or os.path.isdir(inside):
        if is_url(path):
            names = listing(path, [""], "--data")[""][1]
            files = [thing.url for name, thing in sorted(names.items()) if name.lower().endswith(".parquet")]
        else:
            files = sorted(glob.glob(f"{glob.escape(inside)}/*.parquet"))
        words = {word for several in SPLITS.values() for word in several}
        stems = {os.path.basename(file).split(".")[0].split("-")[0].lower() for file in files}
        if len(stems & words) > 1:
            raise ValueError(f"{path} has several splits ({few(list(map(os.path.basename, files)))}); name one file")
        return files
    if any(mark in path for mark in "*?[") and not os.path.exists(inside):
        return sorted(glob.glob(inside, recursive=True))
    return [inside] if path.lower().endswith(".parquet") else []

"""A table of image files and their classes: CSV, TSV or Parquet, a row an image."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from jobs.data.columns import check_labels, class_names, read
from jobs.data.files import Files, named
from jobs.data.image_folder import SPLITS
from jobs.data.prepare import prepare
from jobs.data.sets import Data
from jobs.data.source import Source
from jobs.names import composed, printable
from jobs.paths import PathOrUrl, absolute
from jobs.urls import is_url

_SHOWN = 5


class PathTable(Source):
    """Files named by a table, with their classes by name. Splits are tables of their own, or a column of one table.

    What has no test split gets a stratified share of train; a lone validation split is read as an image folder's is.
    Class numbers count as names, in the order of numbers.
    """

    kind: Literal["table"] = "table"
    train: PathOrUrl
    """A .csv (commas, semicolons or tabs), .tsv or .parquet file with the columns' names on top, or its URL; ``~`` is
    expanded."""
    val: PathOrUrl | None = None
    """The same for the validation split."""
    test: PathOrUrl | None = None
    """The same for the test split."""
    root: PathOrUrl | None = None
    """The folder, or its URL, that relative paths start from; null is that of the table itself."""
    path_column: str = "path"
    """Column of the images' paths, or of their URLs."""
    label_column: str = "label"
    """Column of their classes."""
    split_column: str | None = None
    """Column that says train, val or test, where one table has all; null takes the whole table as train."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.split_column is not None and (self.val or self.test):
            raise ValueError("give split_column or tables of their own (val, test), not both")
        return self

    def open(self, resizes: bool | None = None) -> Data:
        """Read the tables, check and read the files."""
        return prepare(self, *self.stores(), resizes)

    def stores(self) -> tuple[list[str], dict[str, Files], list[str]]:
        """Class names, the files of each split that there is, and notes; no file is opened.

        Raises:
            ValueError: a table cannot be read, lacks a column or a value, or names a class that train has not.
        """
        mine = absolute(self, "data")
        rows = {split: self._rows(split, path) for split in SPLITS if (path := getattr(mine, split)) is not None}
        if self.split_column is not None:
            rows = _by_split(rows["train"], mine.train, self.split_column)
        classes = class_names([label for _, label, _ in rows["train"]])
        known = {composed(name): number for number, name in enumerate(classes)}
        stores = {}
        for split, found in rows.items():
            path = getattr(mine, split) or mine.train
            if strange := sorted({label for _, label, _ in found if composed(label) not in known}):
                raise ValueError(
                    f"{path}: {split} has {', '.join(map(repr, strange[:_SHOWN]))}, but train has no such class; "
                    f"its classes are {', '.join(map(repr, classes[:10]))}{', ...' if len(classes) > 10 else ''}"
                )
            labels = np.array([known[composed(label)] for _, label, _ in found], np.int64)
            root, names = mine.root or os.path.dirname(path), [name for name, _, _ in found]
            stores[split] = named(root, names, labels, path)
            if stores[split].missing == len(names):
                raise ValueError(_none_there(path, root, names, stores[split]))
        return classes, stores, []

    def _rows(self, split: str, path: str) -> list[tuple[str, str, str]]:
        """Path, label and split (or nothing) of each row of a table."""
        names = {"path_column": self.path_column, "label_column": self.label_column}
        names |= {"split_column": self.split_column} if self.split_column is not None else {}
        table = read(path, f"data.{split}")
        for field, name in names.items():
            table.check(name, f"data.{field}")
        columns = []
        for name in names.values():
            values = ["" if value is None else str(value).strip() for value in table[name]]
            if empty := [row for row, value in enumerate(values) if not value]:
                raise ValueError(
                    f"{table.title} row {empty[0] + 1} has no {name!r} (nor have {len(empty) - 1} more rows); "
                    "fill them in or take the rows out"
                )
            columns.append(values)
        if not columns[0]:
            raise ValueError(f"{table.title} has no rows below its column names; add images")
        check_labels(columns[1], table.title)
        return list(zip(*columns[:2], columns[2] if len(columns) > 2 else [""] * len(columns[0]), strict=True))


def _by_split(rows: Sequence[tuple[str, str, str]], path: str, column: str) -> dict[str, list[tuple[str, str, str]]]:
    known = {word: split for split, words in SPLITS.items() for word in words}
    found: dict[str, list[tuple[str, str, str]]] = {}
    for number, row in enumerate(rows):
        split = known.get(row[2].lower())
        if split is None:
            raise ValueError(f"{path} row {number + 1}: {column} is {row[2]!r}, not one of {', '.join(known)}")
        found.setdefault(split, []).append(row)
    if "train" not in found:
        raise ValueError(f"{path}: {column} says {' and '.join(found)} but never train; call the training rows train")
    return {split: found[split] for split in SPLITS if split in found}


def _none_there(path: str, root: str, names: Sequence[str], store: Files) -> str:
    """What to do about a table none of whose files is there."""
    text = f"{path} names {len(names)} files, and none is there; the first would be {printable(store.name(0))}. "
    if any("\\" in name for name in names) or all(re.match(r"[A-Za-z]:", name) for name in names):
        return text + "Its paths are written as on Windows; write them with / and from the folder data.root"
    if not is_url(root) and all(os.path.exists(name) for name in names[:_SHOWN]):
        return text + f"They are there from the current folder: set data.root to {os.getcwd()}"
    return text + f"Relative paths start at {root}; set data.root to the folder that they start at"

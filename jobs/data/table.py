"""A table of image files and their classes: CSV, TSV or Parquet, a row an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import model_validator

from jobs.data.decode import DataError
from jobs.data.files import Files, named
from jobs.data.image_folder import SPLITS
from jobs.data.prepare import prepare
from jobs.data.remote import here
from jobs.data.sets import Data
from jobs.data.source import Source
from jobs.paths import PathOrUrl, absolute
from jobs.urls import is_url, local
from jobs.words import nearest

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
_SHOWN = 5


class PathTable(Source):
    """Files named by a table, with their classes by name. Splits are tables of their own, or a column of one table.

    What has no test split gets a stratified share of train; a lone validation split is read as an image folder's is.
    Class numbers count as names, in the order of numbers.
    """

    kind: Literal["table"] = "table"
    train: PathOrUrl
    """A .csv (comma or semicolon), .tsv or .parquet file with a line of column names, or its URL; ``~`` is expanded."""
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

    def open(self) -> Data:
        """Read the tables, check and read the files."""
        return prepare(self, *self.stores())

    def stores(self) -> tuple[list[str], dict[str, Files], list[str]]:
        """Class names, the files of each split that there is, and notes; no file is opened.

        Raises:
            ValueError: a table cannot be read, lacks a column or a value, or names a class that train has not.
        """
        mine = absolute(self, "data")
        rows = {split: self._rows(split, path) for split in SPLITS if (path := getattr(mine, split)) is not None}
        if self.split_column is not None:
            rows = _by_split(rows["train"], mine.train, self.split_column)
        classes = _classes([label for _, label, _ in rows["train"]])
        known = {name: number for number, name in enumerate(classes)}
        stores = {}
        for split, found in rows.items():
            path = getattr(mine, split) or mine.train
            if strange := sorted({label for _, label, _ in found} - set(known)):
                raise ValueError(
                    f"{path}: {split} has {', '.join(map(repr, strange[:_SHOWN]))}, but train has no such class; "
                    f"its classes are {', '.join(map(repr, classes[:10]))}{', ...' if len(classes) > 10 else ''}"
                )
            labels = np.array([known[label] for _, label, _ in found], np.int64)
            stores[split] = named(mine.root or os.path.dirname(path), [name for name, _, _ in found], labels, path)
        return classes, stores, []

    def _rows(self, split: str, path: str) -> list[tuple[str, str, str]]:
        """Path, label and split (or nothing) of each row of a table."""
        names = {"path_column": self.path_column, "label_column": self.label_column}
        names |= {"split_column": self.split_column} if self.split_column is not None else {}
        table = read(path, f"data.{split}")
        columns = []
        for field, name in names.items():
            if name not in table.column_names:
                near = nearest(name, table.column_names, 1, 0.3) or table.column_names[:1]
                raise ValueError(
                    f"{path} has no column {name!r} (data.{field}); it has {', '.join(table.column_names)}"
                    + (f"; did you mean {near[0]!r}?" if near else "")
                )
            values = [None if value is None else str(value).strip() for value in table[name].to_pylist()]
            if empty := [row for row, value in enumerate(values) if not value]:
                raise ValueError(
                    f"{path} row {empty[0] + 1} has no {name!r} (nor have {len(empty) - 1} more rows); "
                    "fill them in or take the rows out"
                )
            columns.append(values)
        if not columns[0]:
            raise ValueError(f"{path} has no rows below its column names; add images")
        return list(zip(*columns[:2], columns[2] if len(columns) > 2 else [""] * len(columns[0]), strict=True))


def read(path: str, what: str, rows: int | None = None) -> Any:
    """An Arrow table of a CSV, TSV or Parquet file; every column of text files is text.

    Args:
        path: the file, or its URL.
        what: the field that gives it, for errors.
        rows: about how many rows are wanted at least; None is all.

    Raises:
        ValueError: there is no such file, or it is no such table.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    title, path = path, str(here(path, what)) if is_url(path) else local(path)
    if not os.path.isfile(path):
        folder = os.path.dirname(path) or "."
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        there = [name for name in names if name.lower().endswith(SUFFIXES)][:10]
        raise ValueError(f"{what} {path} is no file; {folder} has {', '.join(there) or 'no tables'}")
    try:
        if title.lower().endswith(".parquet"):
            if rows is None:
                return pq.read_table(path)
            return pa.Table.from_batches([next(pq.ParquetFile(path).iter_batches(rows))])
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
        tabs, marks = "\t" in head, ("," in head, ";" in head)
        parse = pa.csv.ParseOptions(
            delimiter="\t" if tabs else ";" if marks == (False, True) else ",", newlines_in_values=True
        )
        names = pa.csv.open_csv(path, parse_options=parse).schema.names
        convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        if rows is not None:
            return pa.Table.from_batches([next(pa.csv.open_csv(path, None, parse, convert))])
        return pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
    except UnicodeDecodeError as error:
        raise ValueError(f"{title} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except StopIteration:
        raise ValueError(f"{title} has no rows; add images") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{title} cannot be read as a table: {error}") from error


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


def _classes(labels: Sequence[str]) -> list[str]:
    names = set(labels)
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if numbers else sorted(names)

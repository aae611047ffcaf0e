"""Columns of text out of a CSV, TSV or Parquet file as people have them."""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.data.decode import DataError
from jobs.data.formats import is_image
from jobs.data.remote import here
from jobs.names import composed, few, printable
from jobs.urls import is_url, local
from jobs.words import nearest

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
_MARKS = (",", ";", "\t")
_SEPARATORS = "columns are separated by commas, semicolons or tabs"
_TRIED = 20


@dataclass(frozen=True)
class Columns:
    """A table.

    Attributes:
        title: its path or URL, for errors.
        names: of the columns, in order; perhaps some twice.
        plain: whether each holds text or whole numbers.
        values: gives the values of the column at an index, a row each: text, whole numbers, None.
    """

    title: str
    names: tuple[str, ...]
    plain: tuple[bool, ...]
    values: Callable[[int], list[Any]]

    def __getitem__(self, name: str) -> list[Any]:
        """The values of a column that is there once."""
        return self.values(self.names.index(name))

    def check(self, name: str, field: str) -> None:
        """Refuse a table that has no such column, or several.

        Args:
            name: of the column.
            field: what gives the name, for errors.

        Raises:
            ValueError: with the columns that there are, and what the table looks like instead.
        """
        if self.names.count(name) > 1:
            raise ValueError(f"{self.title} has {self.names.count(name)} columns called {name!r}; rename all but one")
        if name in self.names:
            return
        if self.headless:
            raise ValueError(
                f"{self.title} begins with what looks like an image and its class ({few(self.names, 3)}); add a first "
                "line with the names of the columns: path,label"
            )
        near = nearest(name, self.names, 1, 0.3) or list(self.names[:1])
        hint = f"; did you mean {near[0]!r}?" if len(self.names) > 1 else f"; {_SEPARATORS}"
        raise ValueError(f"{self.title} has no column {name!r} ({field}); it has {few(self.names)}{hint}")

    @property
    def headless(self) -> bool:
        """Whether the first line is a row rather than names."""
        return any(map(is_image, self.names))


def read(path: str, what: str, rows: int | None = None) -> Columns:
    """The table in a CSV, TSV or Parquet file; spaces around names and values of text files do not count.

    Args:
        path: the file, or its URL.
        what: the field that gives it, for errors.
        rows: how many rows are wanted at most; None is all.

    Raises:
        ValueError: there is no such file, or it is no such table.
    """
    title, path = path, str(here(path, what)) if is_url(path) else local(path)
    if not os.path.isfile(path):
        folder = os.path.dirname(path) or "."
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        there = [name for name in names if name.lower().endswith(SUFFIXES)]
        raise ValueError(f"{what} {printable(path)} is no file; {printable(folder)} has {few(there or ['no tables'])}")
    try:
        return (_parquet if title.lower().endswith(".parquet") else _text)(printable(title), path, rows)
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(title)} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"{printable(title)} cannot be read: {error.strerror or error}") from error


def _parquet(title: str, path: str, rows: int | None) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{title} cannot be read as Parquet: {error}") from None
    schema = file.schema_arrow
    plain = tuple(map(_is_plain, schema.types))

    def values(at: int) -> list[Any]:
        name = schema.names[at]
        if not plain[at]:
            raise ValueError(
                f"{title}: column {name!r} holds {schema.types[at]}; paths and splits are text, labels are text or "
                "whole numbers"
            )
        if rows is not None:
            return next((batch[name].to_pylist() for batch in file.iter_batches(rows, columns=[name])), [])
        return file.read(columns=[name])[name].to_pylist()  # type: ignore[no-any-return]

    return Columns(title, tuple(schema.names), plain, values)


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    return is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_null(kind))


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is text, perhaps as a dictionary."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _text(title: str, path: str, rows: int | None) -> Columns:
    mark = _mark(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = _rows(file, mark)
            names = next(lines, (0, []))[1]
            found = []
            for number, row in itertools.islice(lines, rows):
                if len(row) != len(names):
                    raise ValueError(
                        f"{title} line {number} has {len(row)} values, but there are {len(names)} columns "
                        f"({few(names, 5)}); put quotes around values that hold a {mark!r}"
                    )
                found.append(row)
    except csv.Error as error:
        raise DataError(f"{title} cannot be read as a table: {error}; is a quote missing?") from None
    return Columns(title, tuple(names), (True,) * len(names), lambda at: [row[at] for row in found])


def _rows(file: Any, mark: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and values of each row that is not blank."""
    reader = csv.reader(file, delimiter=mark, skipinitialspace=True, strict=True)
    for row in reader:
        if any(row):
            yield reader.line_num, [value.strip() for value in row]


def _mark(path: str) -> str:
    """What separates the columns: that of which the first lines have most, and equally many."""
    widths: dict[str, tuple[bool, int]] = {}
    for mark in _MARKS:
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                found = [len(row) for _, row in itertools.islice(_rows(file, mark), _TRIED)]
        except csv.Error:
            continue
        widths[mark] = len(set(found)) == 1, found[0] if found else 0
    return max(widths, key=lambda mark: (widths[mark][1] > 1 and widths[mark][0], widths[mark][1]), default=",")


def check_labels(labels: Sequence[str], title: str) -> None:
    """Refuse labels that are no names and no whole numbers.

    Raises:
        ValueError: they are numbers with fractions, or lists.
    """
    if labels and all(re.fullmatch(r"[-+]?\d*\.\d*(e[-+]?\d+)?|nan", label, re.IGNORECASE) for label in labels):
        whole = all(re.fullmatch(r"\d+\.0*", label) for label in labels)
        raise ValueError(
            f"{title} has labels such as {labels[0]}: numbers with a decimal point are no classes; "
            + ("write whole numbers" if whole else "name a class for each range of them")
        )
    if labels and all(re.fullmatch(r"[\[({].*[\])}]", label, re.DOTALL) for label in labels):
        raise ValueError(f"{title} has labels such as {printable(labels[0])}: an image has one class; write its name")


def class_names(labels: Iterable[str]) -> list[str]:
    """The classes that occur, in order; numbers in the order of numbers, and one of several spellings of accents."""
    names = {composed(label): label for label in sorted(set(labels), reverse=True)}.values()
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if numbers else sorted(names)

"""Where rows of image bytes and labels come from: a schema and record batches."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.data.cache import atomic, cached, key
from jobs.data.columns import is_text
from jobs.data.decode import DataError
from jobs.data.remote import Object, fetch, folder, look
from jobs.names import few
from jobs.urls import filesystem, is_url, local, refused
from jobs.words import nearest

BATCH_ROWS = 128
FIELDS = ("data.image_column", "data.label_column")
"""What gives the names of the columns, in a job."""


@dataclass(frozen=True)
class Table(ABC):
    """Where rows come from: something with an Arrow schema and record batches; picklable.

    Attributes:
        image: name of the column of images: ``struct<bytes: binary, path: string>``, or binary.
        label: name of the column of labels: whole numbers, or text.
    """

    image: str
    label: str

    @abstractmethod
    def key(self) -> str:
        """Changes whenever the rows may have changed."""

    @abstractmethod
    def schema(self) -> Any:
        """The Arrow schema, with the metadata that names the classes."""

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Record batches that have at least the two columns."""

    @abstractmethod
    def where(self, row: int) -> str:
        """Row ``row`` for people."""

    def check(self, fields: Sequence[str] = FIELDS) -> None:
        """Whether the columns are there once, and of the right types.

        Args:
            fields: what gives the names of the two columns, for errors.

        Raises:
            ValueError: they are not; with the columns that are.
        """
        import pyarrow as pa

        schema = self.schema()
        for option, name in zip(fields, (self.image, self.label), strict=True):
            if (count := schema.names.count(name)) > 1:
                raise ValueError(f"{self.where(0)}: {count} columns are called {name!r}; rename all but one")
            if not count:
                near = nearest(name, schema.names, 1, 0.3) or schema.names[:1]
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"{self.where(0)}: no column {name!r} ({option}); columns are {few(schema.names)}{hint}"
                )
        image, label = schema.field(self.image).type, schema.field(self.label).type
        inner = (
            image.field("bytes").type if pa.types.is_struct(image) and image.get_field_index("bytes") >= 0 else image
        )
        if not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
            raise ValueError(
                f"{self.where(0)}: column {self.image!r} is {image}, not struct<bytes: binary, ...> or binary"
                + ("; where it holds paths, kind: table reads them" if is_text(image) else "")
            )
        if not (pa.types.is_integer(label) or is_text(label)):
            raise ValueError(
                f"{self.where(0)}: column {self.label!r} is {label}; labels are whole numbers, which count the classes "
                "from 0, or names"
            )

    def classes(self) -> tuple[str, ...] | None:
        """Class names as Hugging Face ``datasets`` writes them into the schema; None where they are not there."""
        raw = (self.schema().metadata or {}).get(b"huggingface")
        if raw is None:
            return None
        features = json.loads(raw).get("info", {}).get("features", {})
        names = (features.get(self.label) or {}).get("names")
        if isinstance(names, dict):  # the form of dataset cards: {"0": "cat", "1": "dog"}
            names = [names[number] for number in sorted(names, key=int)]
        return tuple(map(str, names)) if names else None


@dataclass(frozen=True)
class ParquetTable(Table):
    """Parquet files, on this machine or wherever fsspec reaches.

    Attributes:
        files: their paths or URLs, in order.
        counts: rows of each.
        versions: what tells that a file was changed.
        objects: the same files, where they lie elsewhere; else None.
    """

    files: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    versions: tuple[str, ...] = field(default=())
    objects: tuple[Object | None, ...] = field(default=())

    @classmethod
    def of(cls, files: Sequence[str], image: str, label: str) -> ParquetTable:
        """Look at the files' footers.

        Raises:
            ValueError: one is missing, or no Parquet file.
        """
        import fsspec
        import pyarrow as pa

        counts, versions = [], []
        objects = [look(path, "data") if is_url(path) else None for path in files]
        for path, thing in zip(files, objects, strict=True):
            try:
                versions.append(thing.version if thing else str(fsspec.filesystem("file").checksum(local(path))))
                counts.append(_footer(path, thing).num_rows)
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(f"{path} cannot be read as Parquet: {error}") from error
        return cls(image, label, tuple(files), tuple(counts), tuple(versions), tuple(objects))

    def key(self) -> str:
        """Of paths, columns, and the files' sizes and times."""
        return key(self.files, self.versions, self.image, self.label)

    def schema(self) -> Any:
        """Of the first file."""
        return self._schema(0)

    def check(self, fields: Sequence[str] = FIELDS) -> None:
        """All files must agree."""
        super().check(fields)
        first = self.schema()
        for number, path in enumerate(self.files[1:], 1):
            other = self._schema(number)
            for name in (self.image, self.label):
                if other.names.count(name) != 1 or other.field(name).type != first.field(name).type:
                    raise ValueError(
                        f"column {name!r} of {path} is missing or not {first.field(name).type}, as in {self.files[0]}"
                    )

    def _schema(self, number: int) -> Any:
        found = _footer(self.files[number], self.objects[number])
        return found.schema.to_arrow_schema()

    def batches(self) -> Iterator[Any]:
        """File by file; what lies elsewhere is fetched first, and its copy deleted when all have been read."""
        import pyarrow.parquet as pq

        remote = [each for each in self.objects if each]
        fetch(remote, self.files[0], "data", besides=sum(each.size for each in remote))  # converted, they take as much
        for path, thing in zip(self.files, self.objects, strict=True):
            with pq.ParquetFile(thing.copy(folder()) if thing else local(path)) as file:
                yield from file.iter_batches(BATCH_ROWS, columns=[self.image, self.label])
        for each in remote:
            os.unlink(each.copy(folder()))

    def where(self, row: int) -> str:
        """File and row in it."""
        begins = np.cumsum((0, *self.counts))
        file = int(np.searchsorted(begins[1:], row, side="right"))
        return (
            f"{self.files[min(file, len(self.files) - 1)]} row {row - begins[file] if file < len(self.files) else row}"
        )


def _footer(path: str, thing: Object | None) -> Any:
    """What a Parquet file says of itself; of one elsewhere, that is kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if thing is None:
        return pq.read_metadata(local(path))
    note = cached("footer", key(thing), ".parquet")
    try:
        return pq.read_metadata(note)
    except (OSError, pa.ArrowInvalid):
        fs, inside = filesystem(path, "data")
        try:
            with fs.open(inside, "rb") as file:
                found = pq.read_metadata(file)
        except pa.ArrowInvalid:
            raise
        except Exception as error:  # each library has its own
            raise refused(path, "data", error) from error
        with atomic(note) as beside:
            found.write_metadata_file(str(beside))
        return found

"""Rows of image bytes and labels in one Arrow file that is mapped into memory, so that any row can be read at once.

Parquet must be decompressed a row group at a time, which random access cannot afford. So a split is converted once,
into ``ORCHESTRATOR_HOME/cache/arrow``; where that file is missing (another node, an emptied cache) it is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jobs.data.cache import atomic, cached, key
from jobs.data.columns import check_labels, class_names, is_text
from jobs.data.row_tables import Table
from jobs.data.store import Encoded
from jobs.lock import LONG_S, Lock
from jobs.names import composed, few
from jobs.words import byte_size

_NAME = "name"


class Rows(Encoded):
    """The rows of a table, converted on first use.

    Attributes:
        classes: names of the labels 0, 1, ...; None where the table has none.
        labelled_by_name: whether the labels are text rather than numbers.
    """

    def __init__(self, table: Table) -> None:
        self.table, self.stamp, self._mapped = table, table.key(), None
        if remote := [each for each in getattr(table, "objects", ()) if each]:
            held = byte_size(sum(each.size for each in remote))
            told = f"{len(remote)} files, {held}, beginning with {remote[0].url}"
            self.note = f"{told}, are fetched and converted once on every machine that reads them"
        columns = self._columns()
        self.listed = key(_lengths(columns["image"]))
        self.labelled_by_name = _NAME in columns.column_names
        if self.labelled_by_name:
            names = [name.strip() for name in columns[_NAME].to_pylist()]
            check_labels(names, table.where(0))
            self.classes: tuple[str, ...] | None = tuple(class_names(names))
            numbers = {composed(name): number for number, name in enumerate(self.classes)}
            self.labels = np.array([numbers[composed(name)] for name in names], np.int64)
        else:
            self.classes, self.labels = table.classes(), columns["label"].to_numpy().astype(np.int64)

    def renumber(self, classes: Sequence[str], what: str) -> None:
        """Count the labels as ``classes`` does.

        Raises:
            ValueError: there are labels of other classes; ``what`` says so.
        """
        own, known = self.classes or (), {composed(name): number for number, name in enumerate(classes)}
        occurring = [own[label] for label in np.unique(self.labels).tolist()]
        if unknown := [name for name in occurring if composed(name) not in known]:
            raise ValueError(f"{self.table.where(0)}: {what}: {few(unknown)}; known are {few(classes)}")
        self.labels = np.array([known.get(composed(name), -1) for name in own], np.int64)[self.labels]
        self.classes = tuple(classes)

    def __getstate__(self) -> dict[str, Any]:
        """Without the map, which belongs to the process."""
        return {**self.__dict__, "_mapped": None}

    def here(self) -> None:
        """Fetch and convert."""
        self._columns()

    def encoded(self, index: int) -> bytes:
        """The bytes in the row, or none."""
        scalar = self._columns()["image"][index]
        return scalar.as_py() if scalar.is_valid else b""

    def name(self, index: int) -> str:
        """File, row, and the path that the row gives."""
        path = self._columns()["path"][index].as_py()
        return self.table.where(index) + (f" ({path})" if path else "")

    def _columns(self) -> Any:
        import pyarrow as pa

        if self._mapped is None:
            path = cached("arrow", self.table.key(), ".arrow")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._mapped = _map(path)
            except (OSError, pa.ArrowInvalid):
                with Lock(path.with_suffix(".lock"), LONG_S):  # the other workers of this machine wait, and find it
                    try:
                        self._mapped = _map(path)
                    except (OSError, pa.ArrowInvalid):
                        with atomic(path) as beside:
                            _convert(self.table, str(beside))
                        self._mapped = _map(path)
        return self._mapped


def _map(path: Path) -> Any:
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _lengths(images: Any) -> bytes:
    import pyarrow.compute as pc

    lengths: bytes = pc.fill_null(pc.binary_length(images), -1).to_numpy().tobytes()
    return lengths


def _convert(table: Table, path: str) -> None:
    import pyarrow as pa

    batches = table.batches()
    first = next(batches, None)  # its schema is at hand, where reading the table's own would fetch from elsewhere again
    named = is_text((table.schema() if first is None else first.schema).field(table.label).type)
    fields = {"image": pa.large_binary(), "path": pa.string(), "label": pa.int64()}
    schema = pa.schema({**fields, _NAME: pa.large_string()} if named else fields)
    row = 0
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in chain([] if first is None else [first], batches):
            image, label = batch.column(table.image), batch.column(table.label)
            if label.null_count:
                at = row + int(np.flatnonzero(label.is_null().to_numpy(zero_copy_only=False))[0])
                raise ValueError(f"{table.where(at)}: {table.label!r} is null; label the row or remove it")
            paths = pa.nulls(len(batch), pa.string())
            if pa.types.is_struct(image.type):
                names = [image.type.field(number).name for number in range(image.type.num_fields)]
                parts = dict(zip(names, image.flatten(), strict=True))
                image, paths = parts["bytes"], parts["path"].cast(pa.string()) if "path" in parts else paths
            columns = [image.cast(pa.large_binary()), paths]
            columns += (
                [pa.nulls(len(batch), pa.int64()), label.cast(pa.large_string())] if named else [label.cast(pa.int64())]
            )
            writer.write_batch(pa.record_batch(columns, schema=schema))
            row += len(batch)

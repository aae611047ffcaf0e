"""Images in Parquet files as Hugging Face ``datasets`` lays them out, from disk, from storage, or by a hub name."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from pydantic import model_validator

from jobs.data.cache import key
from jobs.data.prepare import prepare
from jobs.data.row_tables import BATCH_ROWS, ParquetTable, Table
from jobs.data.rows import Rows
from jobs.data.sets import Data
from jobs.data.source import Source
from jobs.names import few
from jobs.paths import PathOrUrl
from jobs.quiet import quiet
from jobs.urls import filesystem, is_url, local, refused

Paths = PathOrUrl | tuple[PathOrUrl, ...] | None
_HUB_NAMES = {"train": ("train",), "val": ("validation", "val", "valid", "dev"), "test": ("test",)}


class Parquet(Source):
    """Rows of encoded images and their labels: numbers of the classes, which the metadata that Hugging Face writes
    names, or names.

    What has no test split gets a stratified share of train; a hub data set with a validation split and no test split is
    read as an image folder of that kind is: its validation split is the *test* split.
    """

    kind: Literal["parquet"] = "parquet"
    train: Paths = None
    """Path, glob, URL (``s3://bucket/train/*.parquet``), or a list of them; ``~`` is expanded."""
    val: Paths = None
    """The same for the validation split; null holds it out of train."""
    test: Paths = None
    """The same for the test split; null holds it out of train."""
    hub: str | None = None
    """Name of a data set on the Hugging Face hub (or a folder that its library reads), instead of paths."""
    hub_config: str | None = None
    """Which configuration of it, where it has several."""
    image_column: str = "image"
    """Column of images: ``struct<bytes: binary, path: string>``, or binary."""
    label_column: str = "label"
    """Column of labels: whole numbers that count the classes from 0, or names."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.hub is not None and (self.train or self.val or self.test):
            raise ValueError("give hub or paths (train, val, test), not both")
        if self.hub is None and not self.train:
            raise ValueError("give train (a path, glob or URL), or hub (a name on the Hugging Face hub)")
        if self.val and not self.test:
            raise ValueError(
                "val is given but not test; name the files to report on test, and val is held out of train"
            )
        return self

    def open(self, resizes: bool | None = None) -> Data:
        """Look at the files, convert them for random access, and read every image."""
        return prepare(self, *self.stores(), resizes)

    def stores(self) -> tuple[tuple[str, ...], dict[str, Rows], list[str]]:
        """Class names, the rows of each split that there is, and notes; no image is decoded.

        Raises:
            ValueError: files, columns or labels are not what the spec says.
        """
        tables = self._from_hub(self.hub) if self.hub is not None else self._from_paths()
        for table in tables.values():
            table.check()
        stores = {split: Rows(table) for split, table in tables.items()}
        names = {split: store.classes for split, store in stores.items()}
        if all(store.labelled_by_name for store in stores.values()):
            for split, store in stores.items():
                store.renumber(names["train"] or (), f"{split} has classes that train has not")
        elif len({names[split] for split in names}) > 1:
            raise ValueError(f"the splits name different classes: {'; '.join(f'{s}: {n}' for s, n in names.items())}")
        classes, notes = names["train"], list[str]()
        if classes is None:
            classes = tuple(map(str, range(max(int(stores["train"].labels.max(initial=-1)) + 1, 1))))
            notes = ["the files name no classes, so they are called by their numbers"]
        for store in stores.values():
            _check_labels(store, classes)
        if absent := sorted(set(range(len(classes))) - set(np.unique(stores["train"].labels).tolist())):
            raise ValueError(
                f"of labels 0 to {len(classes) - 1}, {absent[:10]} ({', '.join(classes[n] for n in absent[:10])}) "
                "have no images in train; number the classes without gaps, or add images"
            )
        return classes, stores, notes

    def _from_paths(self) -> dict[str, Table]:
        given = {"train": self.train, "val": self.val, "test": self.test}
        return {
            split: ParquetTable.of(files(f"data.{split}", paths), self.image_column, self.label_column)
            for split, paths in given.items()
            if paths
        }

    def _from_hub(self, name: str) -> dict[str, Table]:
        try:
            import datasets
        except ImportError:
            raise ValueError(
                f"data.hub {name!r} needs Hugging Face datasets: pip install 'image-classification-orchestrator[hub]', "
                "or download the Parquet files and give their paths as data.train and data.test"
            ) from None
        try:
            with quiet("huggingface_hub", "datasets"):
                every = datasets.load_dataset(name, self.hub_config)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"data.hub {name!r} cannot be loaded: {error}; check the name, the network and HF_TOKEN"
            ) from error
        tables: dict[str, Table] = {}
        for split, known in _HUB_NAMES.items():
            if found := [candidate for candidate in known if candidate in every]:
                tables[split] = HubTable(self.image_column, self.label_column, f"{name} {found[0]}", every[found[0]])
        if "train" not in tables:
            raise ValueError(f"{name} on the hub has no split called train; it has {', '.join(every)}")
        return tables


@dataclass(frozen=True)
class HubTable(Table):
    """A split of a Hugging Face data set, which is on this machine once it is loaded."""

    title: str = ""
    rows: Any = None

    def key(self) -> str:
        """Of the library's own fingerprint of the rows."""
        return key(self.title, self.rows._fingerprint, self.image, self.label)

    def schema(self) -> Any:
        """With the class names."""
        return self.rows.features.arrow_schema

    def batches(self) -> Iterator[Any]:
        """In order."""
        for table in self.rows.with_format("arrow").iter(BATCH_ROWS):
            yield table.select([self.image, self.label]).combine_chunks().to_batches()[0]

    def where(self, row: int) -> str:
        """Split and row."""
        return f"{self.title} row {row}"


def files(what: str, paths: Paths) -> list[str]:
    """Every file that paths, globs and URLs mean, in sorted order.

    Args:
        what: the field that gives them, for errors.
        paths: one or several.

    Raises:
        ValueError: one means no file, or cannot be looked at.
    """
    every: list[str] = []
    for path in (paths,) if isinstance(paths, str) else paths or ():
        system, inside = filesystem(path if is_url(path) else local(path), what)
        system.invalidate_cache()
        try:
            found = [inside] if system.isfile(inside) else []  # what is there is meant, whatever marks are in its name
            if not found and any(mark in inside for mark in "*?["):
                found = [file for file in sorted(system.glob(inside)) if system.isfile(file)]
            if not found:
                folder = inside.rsplit("/", 1)[0]
                there = [file.rsplit("/", 1)[-1] for file in sorted(system.glob(f"{glob.escape(folder)}/*.parquet"))]
        except Exception as error:  # each library has its own
            raise refused(path, what, error) from error
        if not found:
            raise ValueError(f"{what} {path!r} names no file; {folder} has {few(there or ['no .parquet files'])}")
        every += [system.unstrip_protocol(file) if is_url(path) else file for file in found]
    return every


def _check_labels(store: Rows, classes: tuple[str, ...]) -> None:
    outside = np.flatnonzero((store.labels < 0) | (store.labels >= len(classes)))
    if len(outside):
        raise ValueError(
            f"{store.table.where(int(outside[0]))}: label {store.labels[outside[0]]} is not in 0 .. {len(classes) - 1} "
            f"(and {len(outside) - 1} more such rows); number the {len(classes)} classes from 0, or label the rows"
        )

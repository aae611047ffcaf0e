"""Images in tar or Parquet shards, streamed through copies of bounded size."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from jobs.data.columns import check_labels, class_names
from jobs.data.decode import DataError
from jobs.data.parquet import Paths, files
from jobs.data.prepare import prepare
from jobs.data.row_tables import ParquetTable
from jobs.data.sets import Data
from jobs.data.shards import index
from jobs.data.shards.copies import Copies
from jobs.data.shards.facts import Facts
from jobs.data.shards.shard import Shard
from jobs.data.shards.store import ShardStore, surveyed
from jobs.data.source import Source
from jobs.names import composed, few
from jobs.paths import PathOrUrl
from jobs.urls import absolute
from jobs.words import byte_size

_GB = 2**30


class Shards(Source):
    """Tar files in the WebDataset layout, or Parquet files, of many images each, in a folder or bucket: for data that
    no disk holds.

    A machine fetches the shards that its workers need next, and keeps at most ``cache_gb`` of copies. An epoch goes
    through the shards in an order of its own, ``lanes`` of them side by side, each in an order of its own: a function
    of seed and epoch, whatever the number of workers. ``orchestrator shards`` writes shards of any source; those of
    others are read once when they are first opened. Splits are those that were written, or as those of Parquet files.
    """

    kind: Literal["shards"] = "shards"
    root: PathOrUrl | None = None
    """The folder that ``orchestrator shards`` wrote, or its URL (``s3://bucket/shards``)."""
    train: Paths = None
    """Shards of others, instead: path, glob, URL (``s3://bucket/train-*.tar``), or a list of them."""
    val: Paths = None
    """The same for the validation split; null holds it out of train, so that every validation reads all shards."""
    test: Paths = None
    """The same for the test split; null holds it out of train."""
    image_column: str = "image"
    """Column of images in Parquet files: ``struct<bytes: binary, path: string>``, or binary."""
    label_column: str = "label"
    """Column of labels in Parquet files; in tar files, the key of labels in ``.json`` where there is no ``.cls``."""
    lanes: int = Field(32, ge=1, le=4096)
    """Shards that are read side by side, so that every batch mixes images of so many; the largest number that divides
    this and ``batch_size`` is taken. Where it is a multiple of the machines, each fetches its share of an epoch alone.
    Another number is another order."""
    cache_gb: float = Field(64.0, gt=0, le=1e6)
    """Gigabytes of every machine's disk that copies of shards may take, below ORCHESTRATOR_HOME. All shards, or twice
    ``lanes`` of them, must fit."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.root is None) == (not self.train):
            raise ValueError("give root (a folder that orchestrator shards wrote) or train (shards of others)")
        if self.root is not None and (self.val or self.test):
            raise ValueError("the splits of root are those that were written; val and test go with train")
        if self.val and not self.test:
            raise ValueError("val is given but not test; name the shards to report on test; val is held out of train")
        if self.balanced_sampling:
            raise ValueError(
                "balanced_sampling draws any image at any time, which shards cannot give; use class_weights: balanced"
            )
        return self

    def open(self, resizes: bool | None = None) -> Data:
        """Look at the shards, and read those that nobody has read yet."""
        return prepare(self, *self.stores(), resizes)

    def stores(self) -> tuple[list[str], dict[str, ShardStore], list[str]]:
        """Class names, the images of each split that there is, and notes; shards of others are read where that was
        never done.

        Raises:
            ValueError: shards are missing, damaged or without labels, or the copies have no room.
        """
        copies = Copies(int(self.cache_gb * _GB))
        if self.root is not None:
            classes, found = index.stores(absolute(self.root, "data.root").rstrip("/"), "data.root", copies, self.lanes)
            self._check_room(found)
            return classes, found, []
        given = {split: getattr(self, split) for split in ("train", "val", "test") if getattr(self, split)}
        names: tuple[str, ...] | None = None
        facts: dict[str, tuple[list[Shard], list[Facts]]] = {}
        for split, paths in given.items():
            every = files(f"data.{split}", paths)
            shards = [Shard.at(path, (self.image_column, self.label_column)) for path in every]
            if parquet := [shard.url for shard in shards if shard.is_parquet]:
                table = ParquetTable.of(parquet, self.image_column, self.label_column)
                table.check()
                names = names or table.classes()
            facts[split] = surveyed(shards, copies)
        classes = list(
            names
            or class_names(word for _, several in facts.values() for each in several for word in each.words.tolist())
        )
        found = {split: self._store(split, *facts[split], classes, bool(names), copies) for split in given}
        self._check_room(found)
        return classes, found, []

    def _store(
        self, split: str, shards: list[Shard], several: list[Facts], classes: list[str], numbered: bool, copies: Copies
    ) -> ShardStore:
        """A split of shards of others, its labels as ``classes`` counts them."""
        facts = Facts.joined(several)
        check_labels(facts.words.tolist(), f"data.{split}")
        known = {
            composed(name): number for number, name in enumerate(map(str, range(len(classes))) if numbered else classes)
        }
        if unknown := [word for word in facts.words.tolist() if composed(word) not in known]:
            raise DataError(f"data.{split}: labels {few(unknown)} are none of the classes; there are {few(classes)}")
        numbers = np.array([known[composed(word)] for word in facts.words.tolist()], np.int64)
        facts = Facts(**{**vars(facts), "labels": numbers[facts.labels], "words": np.array(classes)})
        return ShardStore(shards, [len(each) for each in several], facts, copies, self.lanes)

    def _check_room(self, found: dict[str, ShardStore]) -> None:
        copied = [shard.file.size for store in found.values() for shard in store.shards if not shard.in_place]
        needed = min(sum(copied), 2 * self.lanes * max(copied, default=0))
        if needed > self.cache_gb * _GB:
            raise ValueError(
                f"data.cache_gb {self.cache_gb:g} does not hold two shards, of {byte_size(max(copied))} at most, for "
                f"each of {self.lanes} lanes; set data.cache_gb to {needed / _GB:.2g} or more, or fewer data.lanes"
            )

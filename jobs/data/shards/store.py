"""The images of a split that are in shards, in the order of the shards."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from jobs.allowed import cpus as threads
from jobs.data.ahead import ahead
from jobs.data.cache import cached, key
from jobs.data.decode import UnreadableError
from jobs.data.findings import Scan
from jobs.data.progress import progress
from jobs.data.shards.copies import Copies
from jobs.data.shards.facts import Facts, row
from jobs.data.shards.shard import Shard, sha256
from jobs.data.store import Encoded
from jobs.words import byte_size

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raise it when a change here or in ``decode`` makes earlier facts wrong."""


class ShardStore(Encoded):
    """Images in shards; picklable.

    Args:
        shards: the files, in order.
        counts: images in each.
        facts: what is known of the images of all of them.
        copies: where they are read from.
        lanes: shards that are read side by side.
    """

    places: NDArray[np.int32]

    def __init__(
        self, shards: Sequence[Shard], counts: Sequence[int], facts: Facts, copies: Copies, lanes: int
    ) -> None:
        self.shards, self.facts, self.copies, self.lanes = tuple(shards), facts, copies, lanes
        self.labels = facts.labels
        self.places = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self.begins = np.cumsum([0, *counts])
        self.stamp = key(FORMAT, [(shard.file, shard.sha256, shard.columns) for shard in shards])
        size = sum(shard.file.size for shard in shards)
        self.note = f"{len(shards)} shard{'s' * (len(shards) != 1)}, {byte_size(size)}, beginning with {shards[0].url}"
        if not all(shard.in_place for shard in shards):
            self.note += f"; copies of at most {byte_size(copies.most)} are kept on every machine that reads them"

    def encoded(self, index: int) -> bytes:
        """Out of the shard's copy, which is fetched where it is not there."""
        facts = self.facts
        return self.copies.read(self._shard(index), int(facts.offsets[index]), int(facts.sizes[index]))

    def name(self, index: int) -> str:
        """The shard, and the place of the image in it, from 0."""
        return f"{self._shard(index).url} image {index - self.begins[self.places[index]]}"

    def shape(self, index: int) -> tuple[int, int, int]:
        """What is known of it."""
        if reason := self.facts.errors.get(index):
            raise UnreadableError(reason)
        height, width, channels = self.facts.part(index, index + 1).scan(3, self.exif_orientation).shapes[0].tolist()
        return height, width, channels

    def header(self, index: int) -> tuple[int, int, int]:
        """What is known of it."""
        return self.shape(index)

    def known(self, channels: int) -> Scan:
        """What was found when the shards were written or first read."""
        return self.facts.scan(channels, self.exif_orientation)

    def coming(self, index: NDArray[np.int64]) -> list[Shard]:
        """The shards of some images."""
        return [self.shards[number] for number in np.unique(self.places[index]).tolist()]

    def expect(self, coming: Iterable[Shard], done: Iterable[Shard]) -> None:
        """Have shards fetched, and give others up."""
        self.copies.expect(coming, done)

    def _shard(self, index: int) -> Shard:
        return self.shards[int(self.places[index])]


def surveyed(shards: Sequence[Shard], copies: Copies) -> tuple[list[Shard], list[Facts]]:
    """Shards with their checksums, and what is known of their images: each is read once, whatever reads it later.

    Raises:
        DataError: one is missing or damaged, or an image has no label.
    """

    def one(shard: Shard) -> tuple[Shard, Facts]:
        path = cached("shards", key(FORMAT, shard), ".npz")
        try:
            facts, more = Facts.load(path)
            return replace(shard, sha256=more["sha256"]), facts
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            pass
        with copies.original(shard) as original:
            facts = Facts.of((sample, row(sample.data)) for sample in shard.samples(original))
            digest = sha256(original)
        try:
            facts.save(path, sha256=digest)
        except OSError as error:
            logger.warning("cannot keep what was found about a shard, so it is read again next time: %s", error)
        return replace(shard, sha256=digest), facts

    advance, found = progress("reading shards", len(shards)), []
    for each in ahead(one, shards, threads()):
        found.append(each)
        advance(1)
    return [shard for shard, _ in found], [facts for _, facts in found]

"""A shard: a tar file of the WebDataset layout or a Parquet file, and the images in it."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs.data.decode import DataError
from jobs.data.formats import SUFFIXES, is_image
from jobs.data.remote import Object, look
from jobs.data.shards.facts import Sample
from jobs.names import few, printable
from jobs.urls import is_url, local

CHUNK_BYTES = 2**20
BATCH_ROWS = 128


@dataclass(frozen=True)
class Shard:
    """A file of many images, as it was when it was looked at.

    Attributes:
        file: where it lies, its bytes, and what changes with its content.
        sha256: of its content; empty where nobody knows it.
        columns: of a Parquet file, the columns of images and of labels; of a tar file, the second one is the key of
            labels in JSON.
    """

    file: Object
    sha256: str = ""
    columns: tuple[str, str] = ("image", "label")

    @classmethod
    def at(cls, path: str, columns: tuple[str, str]) -> Shard:
        """That of a path or URL.

        Raises:
            ValueError: there is none, or it is compressed.
        """
        if not path.lower().endswith((".tar", ".parquet")):
            raise ValueError(f"{printable(path)} is neither a .tar nor a .parquet file; unpack what is compressed")
        return cls(look(path, "data") if is_url(path) else here(path), columns=columns)

    @property
    def url(self) -> str:
        """Path or URL."""
        return self.file.url

    @property
    def is_parquet(self) -> bool:
        """Whether its images must be taken out before any one can be read alone."""
        return self.url.lower().endswith(".parquet")

    @property
    def in_place(self) -> bool:
        """Whether it is read where it lies: a tar file on this machine."""
        return not (is_url(self.url) or self.is_parquet)

    def checked(self, path: str) -> None:
        """Compare a copy with what is known of the shard.

        Raises:
            DataError: it is another one.
        """
        size = os.path.getsize(path)
        if size != self.file.size:
            raise DataError(f"shard {self.url} has {size} bytes instead of {self.file.size}: {_DAMAGED}")
        if self.sha256 and sha256(path) != self.sha256:
            raise DataError(f"shard {self.url} does not have the checksum that it was written with: {_DAMAGED}")

    def flatten(self, path: str, target: str) -> None:
        """Write the images of a Parquet file one after the other, which is what offsets are into."""
        with open(target, "wb") as file:
            for sample in self._rows(path):
                file.write(sample.data)

    def samples(self, path: str) -> Iterator[Sample]:
        """The images in order.

        Args:
            path: of the shard's copy; of a Parquet file, of the file itself.

        Raises:
            DataError: it is damaged, or an image has no label.
        """
        return self._rows(path) if self.is_parquet else self._members(path)

    def _rows(self, path: str) -> Iterator[Sample]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        offset = number = 0
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=list(self.columns)):
                    images, labels = (batch.column(name).to_pylist() for name in self.columns)
                    for image, label in zip(images, labels, strict=True):
                        if label is None:
                            raise DataError(f"{self.url} row {number}: {self.columns[1]!r} is null; label the row")
                        data = (image["bytes"] if isinstance(image, dict) else image) or b""
                        yield Sample(offset, data, str(label).strip())
                        offset, number = offset + len(data), number + 1
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"shard {self.url} cannot be read as Parquet: {error}; {_DAMAGED}") from error

    def _members(self, path: str) -> Iterator[Sample]:
        """Files that follow each other and share their name up to the first dot are an image and its label."""
        key, found = None, dict[str, tuple[int, bytes]]()
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    if not member.isfile() or name.startswith("."):
                        continue
                    stem, _, suffix = name.partition(".")
                    if (folder, stem) != key:
                        if key is not None:
                            yield self._sample("/".join(filter(None, key)), found)
                        key, found = (folder, stem), {}
                    file: Any = archive.extractfile(member)
                    found[suffix.lower()] = (member.offset_data, file.read())
            if key is not None:
                yield self._sample("/".join(filter(None, key)), found)
        except (OSError, tarfile.TarError, EOFError) as error:
            raise DataError(f"shard {self.url} cannot be read as tar: {error}; {_DAMAGED}") from error

    def _sample(self, key: str, found: dict[str, tuple[int, bytes]]) -> Sample:
        images = [suffix for suffix in found if is_image(f"x.{suffix}")]
        if len(images) != 1:
            what = f"{len(images)} images" if images else f"no image (read are {', '.join(sorted(SUFFIXES))})"
            raise DataError(f"shard {self.url}: {printable(key)} has {what} in {few(found)}; it must have one")
        offset, data = found[images[0]]
        try:
            if "cls" in found:
                return Sample(offset, data, found["cls"][1].decode().strip())
            label = json.loads(found["json"][1])[self.columns[1]]
        except (KeyError, TypeError, ValueError):
            label = None
        if not isinstance(label, str | int):
            raise DataError(
                f"shard {self.url}: {printable(key)} has no label: neither a .cls file nor {self.columns[1]!r} in a "
                f".json file (data.label_column); it has {few(found)}"
            )
        return Sample(offset, data, str(label).strip())


_DAMAGED = "it is damaged or was replaced; put it back as it was, or write the shards again"


def here(path: str) -> Object:
    """A file on this machine, as it is now.

    Raises:
        ValueError: there is none.
    """
    path = local(path)
    try:
        info = os.stat(path)
    except OSError as error:
        raise DataError(f"shard {printable(path)} cannot be read: {error.strerror}") from error
    return Object(path, info.st_size, str(info.st_mtime_ns))


def sha256(path: str) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Writes the images of any source into shards: originals as they are, in an order that mixes them, the index last."""

from __future__ import annotations

import io
import json
import os
import tarfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from jobs.data.ahead import ahead
from jobs.data.cache import cached, key
from jobs.data.decode import DataError, UnreadableError
from jobs.data.formats import FORMATS
from jobs.data.progress import progress
from jobs.data.remote import Object, listing
from jobs.data.shards.copies import PART
from jobs.data.shards.facts import Facts, Row, Sample, row
from jobs.data.shards.index import INDEX, About, Entry, save
from jobs.data.shards.shard import here, sha256
from jobs.data.shards.store import FORMAT
from jobs.data.source import Source
from jobs.data.split import divide
from jobs.data.store import Encoded, Store
from jobs.names import printable
from jobs.urls import absolute, filesystem, is_url, local, make_folder, refused

_AHEAD = 256
_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        shards: of all splits, in order.
        classes: their number.
        notes: what a person should know of the source.
    """

    shards: Sequence[Entry]
    classes: int
    notes: Sequence[str]


def write(source: Source, out: str, shard_bytes: int) -> Written:
    """Write the images of a source into tar files of about ``shard_bytes`` in a folder or bucket.

    Splits that the source does not have are held out by its ``val_fraction``, ``test_fraction`` and ``split_seed``, and
    written to shards of their own. Images come in a random order that depends on the number of images alone. A shard
    that is there from an interrupted attempt is not written again.

    Args:
        source: says which images.
        out: folder or URL; made where it is missing.
        shard_bytes: a shard is closed when it has as many.

    Raises:
        ValueError: the source cannot be read, ``out`` has an index already or cannot be written to, or more than
            ``source.max_corrupt`` images are missing.
    """
    place = _Place(absolute(out, "OUT"))
    if INDEX in place.there:
        raise ValueError(f"{out} holds finished shards ({INDEX}); give another folder, or delete it")
    classes, stores, notes = source.stores()
    for store in stores.values():
        store.here()
    parts, more = divide({split: store.labels for split, store in stores.items()}, source, classes)
    what = [(store.stamp, store.labels.tobytes()) for store in stores.values()]
    plan = key(FORMAT, place.root, shard_bytes, list(classes), what, source.model_dump_json())
    advance = progress("writing shards", sum(len(index) for _, index in parts.values()))
    entries, facts, missing = list[Entry](), list[Facts](), list[str]()
    for split in ("train", "val", "test"):
        of, index = parts[split]
        index = index[np.random.Generator(np.random.Philox(0)).permutation(len(index))]
        coming: Iterator[_Made] | None = None
        number = start = 0
        while start < len(index):
            name, kept = f"{split}-{number:05}.tar", cached("shards", key(plan, split, number), ".npz")
            shard = _known(kept, place.there.get(name)) if coming is None else None
            if shard is None:
                coming = coming or ahead(_maker(stores[of]), index[start:].tolist(), _AHEAD)
                with place.writing(name) as path:
                    shard = _shard(path, name, split, start, coming, shard_bytes)
                with suppress(OSError):  # else an interrupted attempt begins again
                    note = {
                        "entry": shard.entry.model_dump(),
                        "missing": shard.missing,
                        "object": astuple(place.there[name]),
                    }
                    shard.facts.save(kept, about=json.dumps(note))
            missing += shard.missing
            if len(missing) > source.max_corrupt:
                raise DataError(
                    f"{len(missing)} images are missing:{''.join(f'{chr(10)}  {line}' for line in missing[:10])}\nmend "
                    f"the source, or set data.max_corrupt (now {source.max_corrupt}) to leave them out"
                )
            advance(shard.entry.images + len(shard.missing))
            start, number = start + shard.entry.images + len(shard.missing), number + 1
            entries.append(shard.entry)
            facts.append(shard.facts)
    joined = Facts.joined(facts)
    numbers = joined.words.astype(np.int64)[joined.labels]
    with place.writing(INDEX) as path:
        about = About(format=FORMAT, classes=list(map(str, classes)), shards=entries)
        save(Path(path), about, replace(joined, labels=numbers, words=np.array(about.classes)))
    lost = [f"left out, for they are missing: {', '.join(missing[:10])}"] if missing else []
    return Written(entries, len(classes), [*notes, *more, *lost])


class _Made(NamedTuple):
    """An image to be written: its bytes, what is known of it, its label; or why there is none."""

    data: bytes
    row: Row | None
    label: str
    missing: str = ""


class _Shard(NamedTuple):
    entry: Entry
    facts: Facts
    missing: list[str]


def _maker(store: Store) -> Callable[[int], _Made]:
    def made(index: int) -> _Made:
        label = str(store.labels[index])
        try:
            data = _bytes(store, index)
        except (OSError, UnreadableError) as error:
            return _Made(b"", None, label, f"{printable(store.name(index))}: {error}")
        return _Made(data, row(data), label)

    return made


def _bytes(store: Store, index: int) -> bytes:
    """The image as it is stored; as PNG where it is no file."""
    if isinstance(store, Encoded):
        return store.encoded(index)
    image, buffer = store.load(index)[0], io.BytesIO()
    (image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image).save(buffer, "PNG")
    return buffer.getvalue()


def _suffix(data: bytes) -> str:
    try:
        kind = Image.open(io.BytesIO(data), formats=FORMATS).format or "JPEG"
    except Exception:  # Pillow's plugins raise whatever comes up inside them; whoever reads it will be notified
        kind = "JPEG"
    return _SUFFIXES.get(kind, kind.lower())


def _shard(path: str, name: str, split: str, first: int, coming: Iterator[_Made], shard_bytes: int) -> _Shard:
    """Write one shard, of what comes next."""
    rows, missing = list[tuple[Sample, Row]](), list[str]()
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:

        def add(member: str, data: bytes) -> int:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            return archive.offset

        for number, made in enumerate(coming, first):
            if made.row is None:
                missing.append(made.missing)
                continue
            offset = archive.offset + tarfile.BLOCKSIZE
            add(f"{number:09}.{_suffix(made.data)}", made.data)
            rows.append((Sample(offset, made.data, made.label), made.row))
            if add(f"{number:09}.cls", made.label.encode()) >= shard_bytes:
                break
    entry = Entry(name=name, split=split, images=len(rows), bytes=os.path.getsize(path), sha256=sha256(path))
    return _Shard(entry, Facts.of(rows), missing)


def _known(kept: Path, there: Object | None) -> _Shard | None:
    """A shard of an earlier attempt that is there as it was written."""
    try:
        facts, more = Facts.load(kept)
        about = json.loads(more["about"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    if there is None or [there.url, there.size, there.version] != list(about["object"]):
        return None
    return _Shard(Entry.model_validate(about["entry"]), facts, about["missing"])


class _Place:
    """A folder or a URL that files are written to; each is there when it is whole.

    Attributes:
        there: the files in it by their names.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") if is_url(root) else local(root)
        if is_url(root):
            self.fs, self.inside = filesystem(self.root, "OUT")
            make_folder(self.fs, self.inside)
            self.there = listing(self.root, [""], "OUT")[""][1]
        else:
            os.makedirs(self.root, exist_ok=True)
            self.there = {each.name: here(each.path) for each in os.scandir(self.root) if each.is_file()}

    @contextmanager
    def writing(self, name: str) -> Iterator[str]:
        """A path to write to; what was written gets its name if nothing went wrong."""
        beside = cached("shards", uuid.uuid4().hex, PART) if is_url(self.root) else Path(self.root, f".{name}")
        beside.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield str(beside)
            if not is_url(self.root):
                os.replace(beside, os.path.join(self.root, name))
                self.there[name] = here(os.path.join(self.root, name))
                return
            target = f"{self.inside}/{name}"
            try:
                self.fs.put_file(str(beside), target)
                self.there[name] = Object.of(f"{self.root}/{name}", self.fs.info(target))
            except Exception as error:  # each library has its own
                raise refused(f"{self.root}/{name}", "OUT", error) from error
        finally:
            beside.unlink(missing_ok=True)

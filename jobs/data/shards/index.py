"""The index that is written with shards: which there are, of which split, and what is known of every image."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import BadZipFile

from pydantic import BaseModel, ValidationError

from jobs.data.decode import DataError
from jobs.data.remote import Object, listing
from jobs.data.remote import here as copied
from jobs.data.shards.copies import Copies
from jobs.data.shards.facts import Facts
from jobs.data.shards.shard import Shard
from jobs.data.shards.shard import here as found_here
from jobs.data.shards.store import FORMAT, ShardStore
from jobs.names import few
from jobs.urls import is_url

INDEX = "index.npz"
"""Its name beside the shards; it is written last."""


class Entry(BaseModel):
    """A shard as the index has it."""

    name: str
    split: str
    images: int
    bytes: int
    sha256: str


class About(BaseModel):
    """What an index says besides the facts of its images, which follow each other as the shards do."""

    format: int
    classes: list[str]
    shards: list[Entry]


def save(path: Path, about: About, facts: Facts) -> None:
    """Write an index; labels are indices into the classes then."""
    facts.save(path, about=about.model_dump_json())


def stores(root: str, what: str, copies: Copies, lanes: int) -> tuple[list[str], dict[str, ShardStore]]:
    """Class names and the images of each split of a folder that has an index; no shard is read.

    Args:
        root: absolute path or URL.
        what: the field that gives it, for errors.
        copies: where shards are read from.
        lanes: shards that are read side by side.

    Raises:
        ValueError: there is no index, it is damaged, or shards are missing or of another size.
    """
    there = _listed(root, what)
    if INDEX not in there:
        raise ValueError(
            f"{what} {root} has no {INDEX}, so orchestrator shards has not written it, or not finished; name shards of "
            "others as data.train, data.val and data.test"
        )
    index = there[INDEX].url
    try:
        facts, more = Facts.load(copied(index, what) if is_url(index) else index)
        about = About.model_validate(json.loads(more["about"]))
    except (OSError, EOFError, BadZipFile, KeyError, json.JSONDecodeError, ValidationError) as error:
        raise DataError(f"{index} cannot be read: {error}; write the shards again") from error
    if about.format != FORMAT:
        raise DataError(f"{index} is of format {about.format}, and read is {FORMAT}; write the shards again")
    bad = [
        f"{each.name} is missing"
        if each.name not in there
        else f"{each.name} has {there[each.name].size} bytes instead of {each.bytes}"
        for each in about.shards
        if each.name not in there or there[each.name].size != each.bytes
    ]
    if bad:
        raise DataError(
            f"{what} {root}: {len(bad)} of {len(about.shards)} shards are not as they were written: {few(bad)}; put "
            "them back, or write the shards again"
        )
    found, start = {}, 0
    for split in dict.fromkeys(each.split for each in about.shards):
        entries = [each for each in about.shards if each.split == split]
        counts = [each.images for each in entries]
        shards = [Shard(there[each.name], each.sha256) for each in entries]
        found[split] = ShardStore(shards, counts, facts.part(start, start + sum(counts)), copies, lanes)
        start += sum(counts)
    return about.classes, found


def _listed(root: str, what: str) -> dict[str, Object]:
    if is_url(root):
        return listing(root, [""], what)[""][1]
    if not Path(root).is_dir():
        raise ValueError(f"{what} {root} is not a folder")
    return {path.name: found_here(str(path)) for path in Path(root).iterdir() if path.is_file()}

"""What a path holds: class folders, split folders, or tables, as a source of ``jobs.data``."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from jobs.data import ImageFolder, Parquet, PathTable, Shards
from jobs.data.columns import Columns, read
from jobs.data.formats import is_image
from jobs.data.image_folder import SPLITS
from jobs.data.listing import files_below
from jobs.names import few
from jobs.urls import is_url
from orchestrator.init import sharded

Source = ImageFolder | Parquet | PathTable | Shards

_TABLES = (".csv", ".tsv", ".parquet")
_PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "name", "id")
_LABELS = ("label", "class", "class_name", "category", "target", "species", "y", "labels")
_PARTS = ("split", "set", "subset", "partition", "fold")
_TRIED = 20


def recognise(place: str | Path) -> tuple[Source, list[str]]:
    """The source that a folder, a table or shards are, with absolute paths, and what a person should know of that.

    Raises:
        ValueError: there is nothing there that could be one, with what is there.
    """
    if re.match(r"\w+:/", str(place)):
        if is_url(str(place)) and (shards := sharded.remote(str(place))):
            return shards, []
        raise ValueError(
            f"init looks at images on this machine, not at URLs ({place}), unless orchestrator shards wrote them "
            "there; give it a copy of some of them, and put the URL into the recipe that it writes, as data.root"
        )
    path = Path(place).expanduser().absolute()
    if path.is_file():
        if path.suffix.lower() == sharded.TAR:
            return Shards(train=str(path)), []
        if path.suffix.lower() not in _TABLES:
            raise ValueError(
                f"{path} is neither a folder nor a table ({', '.join(_TABLES)}); give the folder with a folder for "
                "each class, or a table of paths and classes"
            )
        head = read(str(path), "the table", _TRIED)
        found = _table(path, head) or _table(path, head, unseen=True)
        if found is None:
            if head.headless:
                head.check("path", "the paths of the images")
            raise ValueError(
                f"{path} has the columns {few(head.names)}, and none that names files of images beside one of classes; "
                f"call them path and label, paths starting at {path.parent}"
            )
        return found, []
    root, notes = _inner(path)
    tables = _tables(root) if root.is_dir() else []
    if root.is_dir() and (shards := sharded.local(root, _visible(root), bool(tables))):
        return shards, notes
    if tables and not _class_folders(root):
        return _of_tables(root, tables), notes
    notes += [f"{name} was passed over, for there are class folders; to use it, give it to init" for name in tables]
    return ImageFolder(root=str(root)), notes + _nested(root)


def _nested(root: Path) -> list[str]:
    """A note on class folders that hold folders of equal names, which may be the classes that are meant."""
    folders = _folders(root)
    train = [folder for folder in folders if folder.name.lower() in SPLITS["train"]]
    classes = _folders(train[0]) if train else folders
    inner = Counter(entry.name for folder in classes for entry in _folders(folder))
    shared = sorted(name for name, times in inner.items() if times > 1)
    if len(shared) < 2:
        return []
    return [
        f"the classes are {few(sorted(folder.name for folder in classes))}; several of these folders hold folders of "
        f"equal names, {few(shared)}. If those are the classes, give init a folder with one folder for each of them"
    ]


def _inner(path: Path) -> tuple[Path, list[str]]:
    """The folder itself, or the one inside that has it all, as archives often unpack."""
    root = path
    while root.is_dir() and len(inside := _visible(root)) == 1 and inside[0].is_dir() and not _known(inside[0]):
        below = _visible(inside[0])
        if sum(entry.is_dir() for entry in below) < 2 and not _tables(inside[0]):
            break
        root = inside[0]
    return root, [f"{path} holds nothing but {root.relative_to(path)}, so that was looked at"] if root != path else []


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder; none where it is missing or closed, which opening it says."""
    return [entry for entry in _visible(folder) if entry.is_dir()] if os.access(folder, os.R_OK | os.X_OK) else []


def _class_folders(root: Path) -> bool:
    """Whether two or more folders with images stand in it, or a train folder with some."""
    folders = _folders(root)
    train = [folder for folder in folders if folder.name.lower() in SPLITS["train"]]
    inside = _folders(train[0]) if train else []
    return sum(map(_has_image, inside or folders)) >= 2


def _has_image(folder: Path) -> bool:
    return any(map(is_image, files_below(str(folder))))


def _of_tables(root: Path, names: list[str]) -> Source:
    """The tables of a folder, where they are train, val and test, or one alone."""
    by_split = {split: [name for name in names if Path(name).stem.lower() in known] for split, known in SPLITS.items()}
    if len(by_split["train"]) == 1:
        source = _table(root / by_split["train"][0])
        others = {split: str(root / found[0]) for split, found in by_split.items() if split != "train" and found}
        if source is not None and not (isinstance(source, PathTable) and source.split_column):
            if isinstance(source, Parquet) and "val" in others and "test" not in others:
                others = {"test": others["val"]}
            return type(source).model_validate({**source.model_dump(), **others})
    fitting = [found for name in names if (found := _table(root / name)) is not None]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise ValueError(
            f"{root} has {', '.join(names)}, but no columns there name files that exist beside a column of classes; "
            "call them path and label"
        )
    raise ValueError(f"{root} has {len(fitting)} tables: {', '.join(names)}; give init the one to use")


def _table(path: Path, head: Columns | None = None, unseen: bool = False) -> Source | None:
    """The source that a table is; None where no columns fit.

    Args:
        path: of the table.
        head: its first rows.
        unseen: whether files that are named like images will do, though they are not there; opening says so.
    """
    head = read(str(path), "the table", _TRIED) if head is None else head
    every = {name.strip().lower(): name for name in head.names}
    columns = {name.strip().lower(): name for name, plain in zip(head.names, head.plain, strict=True) if plain}
    if path.suffix.lower() == ".parquet" and (image := _bytes_column(path)):
        labels = [every[name] for name in _LABELS if name in every]
        return Parquet(train=str(path), image_column=image, label_column=labels[0]) if labels else None
    labels = [columns[name] for name in _LABELS if name in columns]
    for name in [columns[name] for name in _PATHS if name in columns]:
        values = [str(value).strip() for value in head[name] if value]
        if labels and any(is_image(value) if unseen else (path.parent / value).is_file() for value in values):
            split = next(
                (columns[part] for part in _PARTS if part in columns and _says_train(head, columns[part])), None
            )
            return PathTable(train=str(path), path_column=name, label_column=labels[0], split_column=split)
    return None


def _bytes_column(path: Path) -> str | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for field in pq.read_schema(path):
        inner = (
            field.type.field("bytes").type
            if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
            else field.type
        )
        if pa.types.is_binary(inner) or pa.types.is_large_binary(inner):
            return str(field.name)
    return None


def _says_train(head: Columns, column: str) -> bool:
    """Whether a column names splits; a word in it that names none is an error when the table is opened."""
    return any(str(value).strip().lower() in SPLITS["train"] for value in head[column])


def _tables(root: Path) -> list[str]:
    return [entry.name for entry in _visible(root) if entry.is_file() and entry.suffix.lower() in _TABLES]


def _known(folder: Path) -> bool:
    return any(folder.name.lower() in words for words in SPLITS.values())


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))

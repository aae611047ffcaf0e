"""The data sets that torchvision knows by name: CIFAR10, MNIST, Food101, ImageNet and some dozens more."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.data.cache import key
from jobs.data.decode import DataError, UnreadableError, upright
from jobs.data.prepare import prepare
from jobs.data.sets import Data
from jobs.data.source import Source
from jobs.data.store import Store
from jobs.home import home
from jobs.paths import PathField, absolute
from jobs.words import suggestion

_SPLITS = {"train": ("train", "trainval", "train-standard"), "val": ("val", "valid"), "test": ("test",)}
"""What torchvision's classes call the splits in their argument ``split``."""


class Named(Store):
    """One split of a torchvision data set, asked sample by sample.

    Attributes:
        given: int64 ``(N,)`` labels as the data set counts them; ``labels`` counts the classes that occur.
    """

    def __init__(self, dataset: Any, title: str, stamp: str) -> None:
        self.dataset, self.title, self.stamp = dataset, title, stamp
        self.labels = self.given = _labels(dataset, title)

    def load(self, index: int) -> tuple[Image.Image, bytes]:
        """Ask for it."""
        try:
            image, label = self.dataset[index]
            image.load()
            image = upright(image) if self.exif_orientation else image
        except Exception as error:  # whatever the data set and Pillow raise
            passing = isinstance(error, OSError) and error.errno is not None
            raise UnreadableError(f"{type(error).__name__}: {error}", passing) from error
        if int(label) != self.given[index]:
            raise ValueError(f"{self.name(index)} has label {label}, but the data set's list says {self.given[index]}")
        return image, f"{image.mode} {image.size} ".encode() + image.tobytes()

    def name(self, index: int) -> str:
        """Split and number."""
        return f"{self.title} image {index}"


_LOCAL = (
    "torchvision reads files on this machine only; give a path that all machines have (a shared mount), or convert the "
    "data set once to an image folder or Parquet files, which may be at a URL"
)


class Torchvision(Source):
    """A class of ``torchvision.datasets`` that yields an image and the number of its class.

    A data set with a validation split but no test split has its validation split as the *test* split, as image folders
    have; one without splits is divided by ``test_fraction`` and ``val_fraction``.
    """

    kind: Literal["torchvision"] = "torchvision"
    name: str
    """The class, as torchvision spells it: ``CIFAR10``."""
    root: Annotated[str, PathField(_LOCAL)] | None = None
    """Where its files are; null is ``data/<name>`` under ORCHESTRATOR_HOME. ``~`` is expanded."""
    download: bool = False
    """Fetch the files into ``root`` where they are missing."""
    options: dict[str, str | int | bool] | None = None
    """Further arguments of the class: ``{split: letters}`` for EMNIST."""

    def open(self, resizes: bool | None = None) -> Data:
        """Find the splits and read every image."""
        return prepare(self, *self.stores(), resizes)

    def stores(self) -> tuple[list[str], dict[str, Named], list[str]]:
        """Class names, the splits that there are, and notes.

        Raises:
            ValueError: no such data set, its files are missing, or it is not one of single images and single labels.
        """
        root = home() / "data" / self.name if self.root is None else Path(str(absolute(self, "data").root))
        root.mkdir(parents=True, exist_ok=True)
        datasets = self._splits(self._find(), root)
        stamp = key(self.name, sorted((self.options or {}).items()), _listing(root))
        stores = {split: Named(each, f"{self.name} {split}", key(stamp, split)) for split, each in datasets.items()}
        classes, notes = _count_classes(stores, _names(datasets["train"]))
        return classes, stores, notes

    def _find(self) -> Any:
        import torchvision

        known = {
            n: c
            for n, c in vars(torchvision.datasets).items()
            if inspect.isclass(c) and n in torchvision.datasets.__all__
        }
        if self.name not in known:
            cure = suggestion(self.name, known, f"it has {', '.join(sorted(known))}")
            raise ValueError(f"data.name: torchvision has no data set {self.name!r}; {cure}")
        return known[self.name]

    def _splits(self, found: Any, root: Path) -> dict[str, Any]:
        """The data set's splits, by ours."""
        takes = {
            name for base in found.__mro__ if base is not object for name in inspect.signature(base.__init__).parameters
        }
        arguments: dict[str, Any] = {"root": str(root), **(self.options or {})}
        if "download" in takes and self.name != "ImageNet":  # whose licence forbids it
            arguments["download"] = self.download
        if "train" in takes:
            return {split: self._make(found, arguments, train=split == "train") for split in ("train", "test")}
        if "split" not in takes or "split" in (self.options or {}):
            return {"train": self._make(found, arguments)}
        datasets: dict[str, Any] = {}
        for split, names in _SPLITS.items():
            made = (self._make(found, arguments, split=name) for name in names)
            if (dataset := next((each for each in made if each is not None), None)) is not None:
                datasets[split] = dataset
        if "train" not in datasets:
            raise ValueError(f"torchvision's {self.name} has no split for training images")
        return datasets

    def _make(self, found: Any, arguments: Mapping[str, Any], **split: Any) -> Any:
        """The data set, or None where it has no such split."""
        try:
            return found(**arguments, **split)
        except Exception as error:  # RuntimeError, FileNotFoundError, ...: each class has its own
            if "split" in split and isinstance(error, ValueError) and "Unknown value" in str(error):
                return None
            if isinstance(error, TypeError):
                raise ValueError(f"torchvision's {self.name} refuses data.options {self.options}: {error}") from error
            cure = (
                "fetching them failed" if self.download else "set data.download: true, or data.root to where they are"
            )
            raise DataError(
                f"the files of torchvision's {self.name} cannot be read in {arguments['root']}: {error}; {cure}"
            ) from error


def _listing(root: Path) -> str:
    """Stands for every file below ``root``: path, size, time of change."""
    files = (os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
    return key(str(root), sorted((path, s.st_size, s.st_mtime_ns) for path in files if (s := os.lstat(path))))


def _labels(dataset: Any, title: str) -> NDArray[np.int64]:
    """The data set's list of labels if it has one; reading a label otherwise decodes the image."""
    for attribute in ("targets", "labels", "_labels", "y"):
        listed = getattr(dataset, attribute, None)
        if listed is not None and len(listed) == len(dataset):
            array = np.asarray(listed)
            if array.ndim == 1 and array.dtype.kind in "iu":
                return array.astype(np.int64)
    samples = getattr(dataset, "_samples", None)
    if samples is not None and len(samples) == len(dataset) and isinstance(samples[0][1], int):
        return np.array([sample[1] for sample in samples], np.int64)
    first = dataset[0]
    if not (isinstance(first, tuple) and len(first) == 2 and isinstance(first[0], Image.Image) and _whole(first[1])):
        shown = ", ".join(type(part).__name__ for part in first) if isinstance(first, tuple) else type(first).__name__
        raise ValueError(f"{title} yields ({shown}), not an image and the number of its class")
    with ThreadPoolExecutor() as pool:
        return np.array(list(pool.map(lambda index: int(dataset[index][1]), range(len(dataset)))), np.int64)


def _whole(label: Any) -> bool:
    return isinstance(label, int | np.integer) and not isinstance(label, bool)


def _names(dataset: Any) -> list[str]:
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None) or []
    return [", ".join(name) if isinstance(name, tuple) else str(name) for name in names]


def _count_classes(stores: Mapping[str, Named], names: list[str]) -> tuple[list[str], list[str]]:
    """Number the classes that occur in train from 0; their names, and a note on the names left over."""
    occurring = np.unique(stores["train"].given)
    for store in stores.values():
        if outside := sorted(set(np.unique(store.given).tolist()) - set(occurring.tolist())):
            raise ValueError(f"{store.title} has labels {outside[:10]} that train does not have")
        store.labels = np.searchsorted(occurring, store.given).astype(np.int64)
    named = len(names) > occurring.max()
    unused = [name for label, name in enumerate(names) if label not in occurring] if named else []
    notes = [f"classes without images are left out: {', '.join(unused)}"] if unused else []
    return [names[label] if named else str(label) for label in occurring.tolist()], notes

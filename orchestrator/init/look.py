"""A look at images: sizes and modes from their headers, copies by the hash of their content, and which are broken."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from jobs.allowed import cpus
from jobs.data.decode import UnreadableError, native_channels, pixels, sides
from jobs.data.files import Files
from jobs.data.formats import FORMATS, recognise
from jobs.data.store import Encoded

Place = tuple[str, int]
"""A split of the source, and an image's number in it."""
Progress = Callable[[str, int, int], None]
"""Called with what is being done, the number of images done, and the number in all."""

HEADERS = 100_000
"""Images whose headers are read at most; of more, as many spread evenly."""
DECODED = 2_000
"""Images that are decoded at most, spread evenly."""
_DECODED_PIXELS = 4e9
_DECODED_LEAST = 100
_HEAD_BYTES = 2**16
_CHUNK = 64
_RECOGNISED_BYTES = 1024


@dataclass
class Look:
    """What was seen.

    Attributes:
        images: their number, by split.
        sizes: int32 ``(N, 2)``: height and width of the images whose headers were read.
        kinds: number of those that are ``grey``, ``colour``, ``with alpha``, ``palette``, ``CMYK``, ``16 bits``; an
            image may be several.
        headers: number of headers that were read.
        decoded: number of images that were decoded.
        errors: reasons, by place, of images that cannot be read.
        unsound: number of those that only decoding found.
        copies: places of the images that are equal byte for byte, group by group; all images were compared.
    """

    images: dict[str, int]
    sizes: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    kinds: Counter[str] = field(default_factory=Counter)
    headers: int = 0
    decoded: int = 0
    errors: dict[Place, str] = field(default_factory=dict)
    unsound: int = 0
    copies: list[list[Place]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Images in all splits."""
        return sum(self.images.values())


def look(stores: Mapping[str, Encoded], progress: Progress) -> Look:
    """Look at the images of each split; of shards all is known."""
    if known := _known(stores):
        return known
    every = [(split, index) for split, store in stores.items() for index in range(len(store))]
    found = Look({split: len(store) for split, store in stores.items()})
    with ThreadPoolExecutor(2 * cpus()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images and odd metadata, which decoding reports if they matter

        def over(what: str, places: Sequence[Place], each: Callable[[Encoded, Place], Any]) -> Iterable[Any]:
            """``each`` of all places, in order, and how far it has come."""

            def chunk(start: int) -> list[Any]:
                return [each(stores[place[0]], place) for place in places[start : start + _CHUNK]]

            done = 0
            for results in pool.map(chunk, range(0, len(places), _CHUNK)):
                done += len(results)
                progress(what, done, len(places))
                yield from results

        _read_headers(found, every, over)
        _compare(found, every, over)
        _decode(found, [place for place in every if place not in found.errors], over)
    return found


def _known(stores: Mapping[str, Encoded]) -> Look | None:
    """What those who wrote the images' shards, or read them once, found out about every one of them."""
    found = Look({split: len(store) for split, store in stores.items()}, headers=sum(map(len, stores.values())))
    alike: dict[bytes, list[Place]] = defaultdict(list)
    sizes = []
    for split, store in stores.items():
        known = store.known(3)
        if known is None:
            return None
        found.errors.update({(split, index): reason for index, reason in known.errors.items()})
        sizes.append(known.shapes[known.good, :2])
        for channels, kind in ((1, "grey"), (3, "colour")):
            found.kinds[kind] += int((known.shapes[known.good, 2] == channels).sum())
        for index in known.good.tolist():
            alike[known.hashes[index].tobytes()].append((split, index))
    found.sizes = np.concatenate(sizes)
    found.decoded = len(found.sizes)
    found.copies = [group for group in alike.values() if len(group) > 1]
    return found


def spread(places: Sequence[Place], most: int) -> list[Place]:
    """At most that many of them, evenly spread."""
    if len(places) <= most:
        return list(places)
    return [places[at] for at in np.linspace(0, len(places) - 1, most).round().astype(int).tolist()]


def _read_headers(found: Look, every: Sequence[Place], over: Any) -> None:
    places = spread(every, HEADERS)
    sizes = []
    for place, seen in zip(places, over("reading headers", places, _header), strict=True):
        if isinstance(seen, str):
            found.errors[place] = seen
            continue
        height, width, kinds = seen
        sizes.append((height, width))
        found.kinds.update(kinds)
    found.headers = len(places)
    found.sizes = np.array(sizes, np.int32).reshape(-1, 2)


def _header(store: Encoded, place: Place) -> tuple[int, int, list[str]] | str:
    """Height, width (upright) and kinds; or why it cannot be read."""
    try:
        with store.open(place[1]) as file:
            try:
                with Image.open(file, formats=FORMATS) as image:
                    return _of_header(image)
            except UnidentifiedImageError:
                file.seek(0)
                return recognise(file.read(_RECOGNISED_BYTES))
    except Exception as error:  # Pillow's plugins raise whatever comes up inside them
        return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"


def _of_header(image: Image.Image) -> tuple[int, int, list[str]] | str:
    if image.mode == "F":
        return "floating-point pixels have no defined range; convert the image to 8 or 16 bits"
    kinds = ["grey" if native_channels(image) == 1 else "colour"]
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        kinds.append("with alpha")
    kinds += {"P": ["palette"], "PA": ["palette"], "CMYK": ["CMYK"]}.get(image.mode, [])
    kinds += ["16 bits"] if image.mode.startswith("I") else []
    return *sides(image), kinds


def _length(store: Encoded, place: Place) -> int:
    """Bytes of an image; 0 where there is none."""
    try:
        if isinstance(store, Files):
            return os.stat(store.path(place[1])).st_size
        return len(store.encoded(place[1]))
    except OSError:
        return 0


def _compare(found: Look, every: Sequence[Place], over: Any) -> None:
    """Only what is of one length is read, and only what then begins alike is read whole."""
    alike = _groups(every, over("comparing lengths", every, _length))
    for what, most in (("comparing beginnings", _HEAD_BYTES), ("comparing contents", None)):
        places = [place for group in alike for place in group]

        def digest(store: Encoded, place: Place, most: int | None = most) -> Any:
            length = _length(store, place)
            return length and (length, _digest(store, place, most))

        alike = _groups(places, over(what, places, digest))
    found.copies = alike


def _groups(places: Sequence[Place], keys: Iterable[Any]) -> list[list[Place]]:
    """Places with equal keys, in groups of two or more; a false key has no equal."""
    groups: dict[Any, list[Place]] = defaultdict(list)
    for place, key in zip(places, keys, strict=True):
        if key:
            groups[key].append(place)
    return [group for group in groups.values() if len(group) > 1]


def _digest(store: Encoded, place: Place, most: int | None) -> bytes:
    try:
        with store.open(place[1]) as file:
            data = file.read(-1 if most is None else most)
    except (OSError, UnreadableError):
        return b""
    return hashlib.blake2b(data, digest_size=16).digest()


def _decode(found: Look, places: Sequence[Place], over: Any) -> None:
    area = float(np.median(found.sizes.astype(np.int64).prod(1))) if len(found.sizes) else 1.0
    places = spread(places, min(DECODED, max(_DECODED_LEAST, int(_DECODED_PIXELS / area))))
    for place, reason in zip(places, over("decoding", places, _reason), strict=True):
        if reason:
            found.errors[place] = reason
            found.unsound += 1
    found.decoded = len(places)


def _reason(store: Encoded, place: Place) -> str:
    """Why an image cannot be read, by the words of training; empty where it can."""
    try:
        pixels(store.load(place[1])[0], 3)
    except UnreadableError as error:
        return str(error)
    return ""

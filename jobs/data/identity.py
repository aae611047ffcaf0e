"""Which images a run is of: kept in its checkpoints, and compared before anything is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.data.sets import Data

_LISTED = (
    "it began with data.check: {}, and the check is {} now: images were compared by their names and lengths, not by "
    "their content"
)
UNKNOWN = "the checkpoint does not say which images it is of (an earlier version wrote it), so they were not compared"
_SHOWN = 10


class OtherDataError(ValueError):
    """The opened data are not those that a checkpoint, run or search is of."""


def identity(data: Data) -> dict[str, Any]:
    """What tells the data of a run from any other, as JSON: ``digest``, ``classes``, and ``images`` of each split; and
    by what they are told from data that were opened by another ``check``: ``listed``."""
    images = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    found = {"digest": data.digest, "classes": list(data.classes), "images": images}
    return {**found, "check": data.check, "listed": data.listed}


def check_same(kept: Mapping[str, Any] | None, data: Data, what: str = "the checkpoint") -> str:
    """Refuse to resume on other images; returns a note, which is empty where all was compared.

    Args:
        kept: the :func:`identity` of the data that ``what`` is of; a mapping with a ``digest`` alone will do. None or
            an empty mapping: nobody knows, which is not an error.
        data: what was opened.
        what: what is to be resumed, for the error.

    Raises:
        OtherDataError: digest or class names differ.
    """
    if not kept:
        return UNKNOWN
    found, check = identity(data), kept.get("check", "full")
    if all(kept[name] == found[name] for name in ("digest", "classes") if name in kept):
        return ""
    listed = bool(kept.get("listed")) and all(
        kept[name] == found[name] for name in ("listed", "classes") if name in kept
    )
    if check != data.check and listed:
        return _LISTED.format(check, data.check)
    changes = [
        f"{split} has {found['images'][split]} images, it had {count}"
        for split, count in kept.get("images", {}).items()
        if count != found["images"][split]
    ]
    before, after = kept.get("classes", found["classes"]), found["classes"]
    if before != after:
        changes.append(f"the classes are {_few(after)}, they were {_few(before)}")
    changes = changes or ["each split has as many images as before, but not the same ones or not in the same classes"]
    if check != data.check:
        changes.append(
            f"data.check was {check} and is {data.check}, which matters where names or lengths of files differ, and "
            "where mean or std are measured"
        )
    raise OtherDataError(
        f"{what} is of other images: their digest was {kept['digest'][:12]}, that of the data is now "
        f"{data.digest[:12]}; {'; '.join(changes)}. Resumed, it could be tested on images that it was trained on. Put "
        "the data back as they were, or start a new run on these"
    )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} ({', '.join(names[:_SHOWN])}{more})"

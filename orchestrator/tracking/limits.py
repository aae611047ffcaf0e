"""What MLflow takes in one call: the number of entries, the length of names and values, the characters."""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.tracking.journal import Entry

ENTRIES = 50
"""Params or tags in a call; MLflow takes 100, but 1 MB and few seconds at most."""
PARAM, TAG = 6000, 8000
"""The longest values of params and tags that it takes."""
_METRICS, _KEY = 200, 250  # metrics in a call, of which it takes 1000; the longest name
_CUT = " ... (cut)"


def batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries of one kind in a row, as many as a call takes; those of most kinds one by one."""
    sizes = {"metric": _METRICS, "tag": ENTRIES}
    for kind, group in itertools.groupby(entries, lambda entry: entry.event["event"]):
        same = list(group)
        size = sizes.get(kind, 1)
        for start in range(0, len(same), size):
            yield same[start : start + size]


def name_of(name: str) -> str:
    """The name with what MLflow refuses replaced (recall/<class> may hold anything)."""
    fit = re.sub(r"(^|/)(?=\.{0,2}(/|$))", r"\1_", re.sub(r"[^\w./\- :]", "_", name))[: _KEY - 9]
    return name if fit == name else f"{fit}_{zlib.crc32(name.encode()):08x}"  # two names must not become one


def cut(value: Any, longest: int) -> str:
    """A value as text, its end cut off where it is longer than MLflow takes."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= longest else text[: longest - len(_CUT)] + _CUT

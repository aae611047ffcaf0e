"""The class of a failure, by what it says."""

from __future__ import annotations

import re


def kind_of(cause: str) -> str:
    """The class of a failure: ``memory``, ``nan``, ``data``, ``lost node``, ``timeout`` or ``bug``."""
    text = re.sub(r"\boom(kill\w*)?\b", "out of memory", cause.lower())  # not the end of "bedroom"
    for kind, marks in {
        "memory": ("out of memory", "outofmemory"),
        "nan": ("nonfiniteloss", "loss is nan", "loss is inf"),
        "data": ("can no longer be read", "unreadable", "cannot be read", "no such file"),
        "lost node": ("node", "actor died", "actordied", "worker died", "unavailable"),
        "timeout": ("timeout", "timed out"),
    }.items():
        if any(mark in text for mark in marks):
            return kind
    return "bug"

"""Names that people chose (of files, classes, runs), made fit to be shown and compared."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def printable(text: str) -> str:
    """A name that any terminal, log and table can take, on one line.

    What does not print (escape sequences, line breaks, marks that turn the direction of writing, bytes that are no
    UTF-8) is written as an escape, as Python would: ``\\x1b``, ``\\n``, ``\\udcff``.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def printable_lines(text: str) -> str:
    """Text with names in it, each of its lines :func:`printable`."""
    return "\n".join(map(printable, text.split("\n")))


def few(names: Iterable[str], most: int = 10) -> str:
    """The first of several names, fit to be shown, and how many more there are; ``none`` of none."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(map(printable, every[:most])) + more or "none"


def composed(name: str) -> str:
    """What two names have in common that only differ in how their accents are composed (as archives of a Mac do)."""
    return unicodedata.normalize("NFC", name)

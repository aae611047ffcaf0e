"""Class names in figures: an installed font that has their letters, or else their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.names import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIRST, _NO_LETTERS = "DejaVu Sans", "Last Resort"
"""matplotlib's own font, and one that has a box for every letter there is."""
LEGEND = "classes.txt"


@dataclass(frozen=True)
class Lettering:
    """How class names are drawn.

    Attributes:
        classes: the names, in the order of their numbers.
        families: fonts that have their letters.
        numbered: names that no font here has all letters of; they are drawn as their numbers.
    """

    classes: tuple[str, ...]
    families: tuple[str, ...]
    numbered: frozenset[str] = frozenset()

    @property
    def notes(self) -> list[str]:
        """What should be said of it."""
        if not self.numbered:
            return []
        count = f"{len(self.numbered)} of {len(self.classes)} class names"
        return [
            f"no font on this machine has the letters of {count}: figures show their numbers, and {LEGEND} beside them "
            "what they mean; install a font such as Noto"
        ]

    def name(self, name: str, longest: int = 18) -> str:
        """A name as matplotlib draws it, of at most ``longest`` characters, cut in its middle."""
        if name in self.numbered:
            return f"class {self.classes.index(name)}"
        text = printable(name)
        half = longest // 2
        text = text if len(text) <= longest else f"{text[: half - 1]}…{text[-half:]}"
        return text.replace("$", r"\$")  # no formula between dollars

    def apply(self, figure: Figure) -> None:
        """Draw all texts of a figure with these fonts."""
        from matplotlib.text import Text

        for text in figure.findobj(Text):
            text.set_fontfamily(list(self.families))

    def write_legend(self, folder: Path) -> None:
        """Write number and name of each class beside the figures, where these show numbers."""
        if self.numbered:
            rows = "".join(f"{number}\t{printable(name)}\n" for number, name in enumerate(self.classes))
            (folder / LEGEND).write_text(rows, encoding="utf-8")


@lru_cache(8)
def lettering(classes: tuple[str, ...]) -> Lettering:
    """The fonts for these names: matplotlib's own, then for each name that needs it the first installed one."""
    from matplotlib.font_manager import fontManager

    families, letters, numbered = [_FIRST], _letters(_FIRST), set()
    others = [font.name for font in fontManager.ttflist if not font.name.startswith(_NO_LETTERS)]
    for name in classes:
        missing = set(printable(name)) - letters
        if not missing:
            continue
        found = next((family for family in dict.fromkeys(others) if missing <= _letters(family)), None)
        if found is None:
            numbered.add(name)
        else:
            families.append(found)
            letters = letters | _letters(found)
    return Lettering(classes, tuple(families), frozenset(numbered))


@lru_cache(256)
def _letters(family: str) -> frozenset[str]:
    """The characters that a font has."""
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(findfont(family)).get_charmap()))

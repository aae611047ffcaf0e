"""What is known of a source of images: classes, splits, sizes, and what a person should know before training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.init.look import Look
from orchestrator.init.source import Source


@dataclass(frozen=True)
class Finding:
    """Something that a person should know before training.

    Attributes:
        what: in one sentence.
        cure: what to do about it, or what the recipe does; may be empty.
        examples: file names.
        grave: whether it makes the result wrong, rather than being worth to know.
    """

    what: str
    cure: str = ""
    examples: tuple[str, ...] = ()
    grave: bool = False


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        source: with the shares of the splits that are drawn.
        classes: names, in the order of their numbers.
        counts: int64 ``(K,)``: readable images of each class that train has before anything is held out.
        parts: images of train, val and test in the end.
        drawn: those of val and test that are held out of train by chance.
        look: what the images are.
        corrupt: number of images that are expected to be unreadable.
        findings: what to know, the grave ones first.
    """

    source: Source
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    parts: Mapping[str, int]
    drawn: tuple[str, ...]
    look: Look
    corrupt: int
    findings: tuple[Finding, ...] = ()

    @property
    def ratio(self) -> float:
        """Images of the largest class to those of the smallest."""
        return float(self.counts.max() / self.counts.min())

    @property
    def size(self) -> int:
        """Median of the images' shorter sides in pixels."""
        return int(np.median(self.look.sizes.min(1)))

    @property
    def one_size(self) -> bool:
        """Whether all images are square and of one size."""
        return len(np.unique(self.look.sizes)) == 1

    @property
    def colour(self) -> bool:
        """Whether any image has colour."""
        return self.look.kinds["colour"] > 0

"""The digits that come with scikit-learn: real images where there are no other (Alpaydin and Kaynak 1998, UCI)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from jobs.data.prepare import prepare
from jobs.data.sets import Data
from jobs.data.source import Source
from jobs.data.store import Drawn


class Digits(Source):
    """scikit-learn's hand-written digits: 1,797 grey images of 8x8 pixels in 10 classes."""

    kind: Literal["digits"] = "digits"

    def open(self, resizes: bool | None = None) -> Data:
        """Load."""
        return prepare(self, *self.stores(), resizes)

    def stores(self) -> tuple[str, dict[str, Drawn], list[str]]:
        """Load; test is ``test_fraction`` of all, val ``val_fraction`` of the rest."""
        from sklearn.datasets import load_digits

        raw = load_digits()
        images = np.rint(raw.images * (255 / 16)).astype(np.uint8)[..., None]
        return "0123456789", {"train": Drawn(images, raw.target.astype(np.int64))}, []

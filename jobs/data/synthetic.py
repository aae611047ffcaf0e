"""placeholder: the data helper fills this in."""

from __future__ import annotations

import hashlib
from typing import Literal

from jobs.data.sets import Arrays, Data
from jobs.data.source import Source


class Synthetic(Source):
    """scikit-learn's hand-written digits: 1,797 grey images of 8x8 pixels in 10 classes."""

    kind: Literal["synthetic"] = "synthetic"
    test_fraction: float = 0.2

    def open(self) -> Data:
        """Load."""
        import numpy as np
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        raw = load_digits()
        images = np.rint(raw.images / 16 * 255).astype(np.uint8)[..., None]
        labels = raw.target.astype(np.int64)
        rest, test = train_test_split(
            np.arange(len(labels)), test_size=self.test_fraction, stratify=labels, random_state=self.split_seed
        )
        train, val = train_test_split(
            rest, test_size=self.val_fraction, stratify=labels[rest], random_state=self.split_seed
        )
        a = [Arrays(images[i], labels[i]) for i in (train, val, test)]
        x = a[0].images / 255
        return Data(
            tuple("0123456789"), 1, 8, (float(x.mean()),), (float(x.std()),), hashlib.sha256(images).hexdigest(), *a
        )

"""Generated images that a model can learn to tell apart: for benchmarks and dry runs, in any size and number."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field

from jobs.data.decode import Pixels
from jobs.data.prepare import prepare
from jobs.data.sets import Data
from jobs.data.source import LARGEST, Source
from jobs.data.store import Store

_CELLS = 4


def drawn(seed: int, stream: int, shape: tuple[int, ...]) -> Pixels:
    """Uniform bytes, the same on every machine: the raw output of Philox, which NumPy promises not to change."""
    count = int(np.prod(shape))
    raw = np.random.Philox(key=[seed, stream]).random_raw(-(-count // 8))
    return raw.astype("<u8").view(np.uint8)[:count].reshape(shape)


class Patterns(Store):
    """Image ``i`` is its class's pattern of 4x4 random cells plus uniform noise, made when it is asked for."""

    def __init__(self, classes: int, samples: int, size: int, channels: int, noise: float, seed: int) -> None:
        self.labels = np.arange(samples, dtype=np.int64) % classes
        self.size, self.channels, self.seed = size, channels, seed
        self.amplitude = round(noise * 255)  # integers from here on, for float rounding differs between machines
        self.cells = drawn(seed, 0, (classes, _CELLS, _CELLS, channels))

    def load(self, index: int) -> tuple[Image.Image, bytes]:
        """Draw."""
        place = np.arange(self.size) * _CELLS // self.size
        pattern = self.cells[self.labels[index]][place][:, place].astype(np.int32)
        noise = drawn(self.seed, index + 1, pattern.shape).astype(np.int32) * 2 - 255
        image = np.clip(pattern + noise * self.amplitude // 255, 0, 255).astype(np.uint8)
        return Image.fromarray(image[..., 0] if self.channels == 1 else image), image.tobytes()

    def name(self, index: int) -> str:
        """Its number."""
        return f"synthetic image {index}"


class Synthetic(Source):
    """Generated images: one random pattern a class, plus noise; the same on every machine."""

    kind: Literal["synthetic"] = "synthetic"
    classes: int = Field(10, ge=2, le=100_000)
    """Number of classes; images are dealt to them in turn."""
    samples: int = Field(2000, gt=0, le=100_000_000)
    """Images in all: test is ``test_fraction`` of them, val ``val_fraction`` of the rest, and train what remains."""
    size: int = Field(32, gt=0, le=LARGEST)
    """Height and width of the images in pixels."""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for colour."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of patterns and noise."""
    noise: float = Field(0.5, ge=0, le=4)
    """Half-width of the uniform noise, as a share of the range of a pixel: 0 is trivial, 4 is hard."""

    def open(self, resizes: bool | None = None) -> Data:
        """Generate."""
        return prepare(self, *self.stores(), resizes)

    def stores(self) -> tuple[list[str], dict[str, Patterns], list[str]]:
        """Generate."""
        store = Patterns(self.classes, self.samples, self.size, self.channels, self.noise, self.seed)
        return [f"class {label}" for label in range(self.classes)], {"train": store}, []

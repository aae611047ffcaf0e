"""Splits that are in memory: whole batches are picked where they are, on the device where that has room for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch

from jobs.augment.resample import resample_ragged
from jobs.data.feed import Pass, Wanted
from jobs.data.packed import Packed
from jobs.data.prepared import Square
from jobs.data.sets import Arrays, Split
from jobs.transfer import put

_RESIDENT_SHARE = 0.25
"""Share of a GPU's free memory that a split may take there; a larger one is copied batch by batch."""

Boxes = Callable[[Pass, torch.Tensor], torch.Tensor | None]
"""Of a pass and visits: the part of each image that is resized, int64 ``(n, 4)``; None where that is all of it."""


class Memory(Protocol):
    """A split in memory."""

    def pick(self, this: Pass, wanted: Wanted) -> torch.Tensor:
        """The images of a batch, uint8 ``(n, size, size, channels)`` on the device."""
        ...


def held(splits: Mapping[str, Split], cuts: bool, boxes: Boxes, device: torch.device) -> dict[str, Memory]:
    """Those of the splits that are in memory: arrays, and prepared pixels where a GPU has room for them.

    Args:
        splits: by name.
        cuts: whether an augmentation cuts the training images out of larger ones.
        boxes: what it cuts.
        device: where the batches go.
    """
    memory: dict[str, Memory] = {}
    for name, split in splits.items():
        if isinstance(split, Arrays):
            memory[name] = _Whole(split, device)
        elif isinstance(split, Packed) and (isinstance(split.rule, Square) or cuts) and fits(split.nbytes, device):
            memory[name] = _Prepared(split, boxes, device)
    return memory


def fits(size: int, device: torch.device) -> bool:
    """Whether a device that is not the CPU has room for a split of so many bytes."""
    return device.type == "cuda" and size < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


class _Whole:
    """Images of one size."""

    def __init__(self, split: Arrays, device: torch.device) -> None:
        self.device, self.images = device, _tensor(split.images)
        if fits(self.images.nbytes, device):
            self.images = self.images.to(device)

    def pick(self, this: Pass, wanted: Wanted) -> torch.Tensor:
        """As they are."""
        index = (wanted.visits % len(self.images)).to(self.images.device, non_blocking=True)
        return put(self.images.index_select(0, index), self.device)


class _Prepared:
    """Prepared pixels, of images of any shapes, on the device; what is cut is cut there too, with the same result."""

    def __init__(self, split: Packed, boxes: Boxes, device: torch.device) -> None:
        self.boxes = boxes
        self.pixels = _tensor(split.pixels).to(device).view(-1, split.images.channels)
        self.begins = torch.from_numpy(split.begins[:-1] // split.images.channels)
        self.shapes = torch.from_numpy(split.shapes.astype(np.int64))

    def pick(self, this: Pass, wanted: Wanted) -> torch.Tensor:
        """Cut out, or as they are where all of them have the size."""
        index, size = wanted.visits % len(self.begins), wanted.size
        boxes = self.boxes(this, wanted.visits)
        if boxes is None:
            images = self.pixels.view(len(self.begins), size, size, -1)
            return images.index_select(0, put(index, self.pixels.device))
        return resample_ragged(self.pixels, self.begins[index], self.shapes[index, 1], boxes, size)


def _tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)

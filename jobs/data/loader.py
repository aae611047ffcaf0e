"""From an opened data source to the batches of the loop: this rank's parts of every global batch, augmented,
on its device."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from jobs import precision
from jobs.augment import Augmentation
from jobs.data.decode import fit
from jobs.data.sets import Arrays, Data, Split, Stored
from jobs.place import Place
from jobs.randomness import SampleDraws, balanced_order, order, repeated_order
from jobs.spec import JobSpec
from jobs.steps import Steps

Batch = tuple[torch.Tensor, torch.Tensor]
_RESIDENT_SHARE = 0.25
"""Share of a GPU's free memory that a split in memory may take there; a larger one is copied batch by batch."""


class Loader:
    """Feeds one rank.

    Images in memory are picked, augmented and normalised as whole batches on the device; a split that a GPU can hold
    lives there. Streamed ones are decoded and augmented one at a time in loader processes; so are those that an
    augmentation cuts from originals of another size than the model is fed. Both give the same pixels, for draws are a
    function of the sample (``jobs.randomness``).
    """

    def __init__(self, spec: JobSpec, data: Data, place: Place, steps: Steps) -> None:
        self.spec, self.data, self.place, self.steps = spec, data, place, steps
        self.dtype = precision.dtype(spec)
        device = place.device
        self._shift = torch.tensor(data.mean, dtype=self.dtype, device=device) * 255
        self._scale = 1 / (torch.tensor(data.std, dtype=self.dtype, device=device) * 255)
        self._feeds: dict[int, _Memory | _Stream] = {}

    def epoch(self, epoch: int, done: int) -> Iterator[tuple[int, Iterator[tuple[int, torch.Tensor, torch.Tensor]]]]:
        """The updates of an epoch from update ``done`` on: ``(update of the epoch, its parts)``.

        A part is ``(number, x, labels)``: float ``(n, C, H, W)`` and int64 ``(n,)`` on the device.
        """
        accumulation, size = self.spec.accumulation, self.spec.batch_size
        parts = range(self.place.rank * accumulation, (self.place.rank + 1) * accumulation)
        order = self._order(epoch)
        visits = [
            order[step * size + part * self.steps.part :][: self.steps.part]
            for step in range(done, self.steps.per_epoch)
            for part in parts
        ]
        batches = self._feed(self.data.training(self.spec.resizes)).batches(
            visits, epoch, self.spec.augment, self.data.size
        )
        for step in range(done, self.steps.per_epoch):
            yield step, ((part, self._input(images), labels) for part, (images, labels) in zip(parts, batches))  # noqa: B905

    def scoring(self, split: Split) -> Iterator[Batch]:
        """This rank's share of a split, unpadded: inputs ``(n, C, H, W)`` and labels ``(n,)``, on the device."""
        mine = torch.arange(self.place.rank, len(split), self.place.world)
        picks = list(mine.split(self.spec.evaluation.batch_size)) if len(mine) else []
        size, crop_ratio = self.data.test_size, self.data.crop_ratio
        for images, labels in self._feed(split).batches(picks, 0, (), size, crop_ratio):
            yield self._input(images), labels

    def _order(self, epoch: int) -> torch.Tensor:
        """The visits of an epoch: sample indices, see ``balanced_order`` for more."""
        labels, seed = self.data.train.labels, self.spec.seed.data
        if self.data.balanced_sampling:
            return balanced_order(seed, epoch, torch.tensor(labels))
        if self.spec.repeats > 1:
            return repeated_order(seed, epoch, len(labels), self.spec.repeats, self.spec.batch_size)
        return order(seed, epoch, len(labels))

    def _input(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float ``(n, C, H, W)`` of uint8 ``(n, H, W, C)``; that view is channels_last as it stands."""
        rows = images.flatten(2).to(self.dtype)  # whole rows, for an innermost dimension of 3 is slow on a CPU
        shift, scale = (values.repeat(images.shape[2]) for values in (self._shift, self._scale))
        x = rows.sub_(shift).mul_(scale).view(images.shape).permute(0, 3, 1, 2)
        return x if self.spec.channels_last else x.contiguous()

    def _feed(self, split: Split) -> _Memory | _Stream:
        if id(split) not in self._feeds:
            kind = _Memory if isinstance(split, Arrays) else _Stream
            self._feeds[id(split)] = kind(split, self)  # type: ignore[arg-type]
        return self._feeds[id(split)]


class _Memory:
    def __init__(self, split: Arrays, loader: Loader) -> None:
        self.loader, device = loader, loader.place.device
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self.images, self.labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
        if device.type == "cuda" and self.images.nbytes < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.images, self.labels = self.images.to(device), self.labels.to(device)

    def batches(
        self,
        visits: Sequence[torch.Tensor],
        epoch: int,
        augment: Sequence[Augmentation],
        size: int,
        crop_ratio: float = 1.0,
    ) -> Iterator[Batch]:
        device = self.loader.place.device
        for visit in visits:
            index = (visit % len(self.labels)).to(self.images.device, non_blocking=True)
            images, labels = self.images.index_select(0, index), self.labels[index]
            if images.device != device:
                images, labels = (t.pin_memory().to(device, non_blocking=True) for t in (images, labels))
            draws = SampleDraws(self.loader.spec.seed.data, epoch, visit, device)
            for trick in augment:
                images = trick(images, draws, size)
            yield images, labels


class _Stream:
    def __init__(self, split: Stored, loader: Loader) -> None:
        self.split, self.loader = split, loader
        workers = loader.spec.data.loader_workers
        self.workers = math.ceil(loader.spec.resources.cpus_per_worker) if workers is None else workers

    def batches(
        self,
        visits: Sequence[torch.Tensor],
        epoch: int,
        augment: Sequence[Augmentation],
        size: int,
        crop_ratio: float = 1.0,
    ) -> Iterator[Batch]:
        device = self.loader.place.device
        loader: DataLoader[Any] = DataLoader(
            _Decoded(self.split, epoch, tuple(augment), self.loader.spec.seed.data, size, crop_ratio),
            batch_sampler=[visit.tolist() for visit in visits],
            num_workers=min(self.workers, len(visits), os.cpu_count() or 1),
            pin_memory=device.type == "cuda",
        )
        for images, labels in loader:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


class _Decoded(Dataset[tuple[torch.Tensor, int]]):
    """Decoded, sized and augmented images of a split, one at a time."""

    def __init__(
        self, split: Stored, epoch: int, augment: tuple[Augmentation, ...], seed: int, size: int, crop_ratio: float
    ) -> None:
        self.split, self.epoch, self.augment, self.seed = split, epoch, augment, seed
        self.size, self.crop_ratio = size, crop_ratio

    def __getitem__(self, visit: int) -> tuple[torch.Tensor, int]:
        index = visit % len(self.split)
        image: np.ndarray[Any, np.dtype[np.uint8]] = self.split.read(index)
        if not (self.augment and self.augment[0].resizes):
            image = fit(image, self.size, self.crop_ratio)
        images = torch.from_numpy(image if image.flags.writeable else image.copy())[None]
        draws = SampleDraws(self.seed, self.epoch, torch.tensor([visit]))
        for trick in self.augment:
            images = trick(images, draws, self.size)
        return images[0], int(self.split.labels[index])

"""From an opened data source to the batches of the loop: this rank's parts of every global batch, augmented,
on its device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch

from jobs import precision
from jobs.allowed import cpus
from jobs.data.feed import Feed, Pass, Wanted
from jobs.data.memory import held
from jobs.data.sets import Arrays, Data, Split, Stored
from jobs.place import Place
from jobs.randomness import SampleDraws, balanced_order, order, repeated, sharded_order
from jobs.spec import JobSpec
from jobs.steps import Steps
from jobs.transfer import put

Batch = tuple[torch.Tensor, torch.Tensor]


class Loader:
    """Feeds one rank.

    Images in memory are picked as whole batches on the device, and so are prepared pixels that a GPU has room for
    (``jobs.data.memory``). Those of a streamed split come from loader processes (``jobs.data.feed``), sized; so do
    those that an augmentation cuts from originals of another size than the model is fed. All that follows
    (augmentation, normalisation) runs on whole batches on the device, by draws that are a function of the sample
    (``jobs.randomness``), so all ways give the same pixels. The exception is ``random_resized_crop`` of streamed JPEG
    files four times as large as needed or more, by less than one grey level on average.
    """

    def __init__(self, spec: JobSpec, data: Data, place: Place, steps: Steps) -> None:
        self.spec, self.data, self.place, self.steps = spec, data, place, steps
        self.dtype = precision.dtype(spec)
        device = place.device
        self._shift = torch.tensor(data.mean, dtype=self.dtype, device=device) * 255
        self._scale = 1 / (torch.tensor(data.std, dtype=self.dtype, device=device) * 255)
        self._lines: dict[int, Batch] = {}  # both, for all pixels of a line
        self._splits: dict[str, Split] = {"train": data.training(spec.resizes), "val": data.val, "test": data.test}
        self._labels = {name: torch.from_numpy(np.array(split.labels)) for name, split in self._splits.items()}
        self._cuts = spec.resizes and not isinstance(self._splits["train"], Arrays)
        self._memory = held(self._splits, self._cuts, self._boxes, device)
        streamed = {
            name: split
            for name, split in self._splits.items()
            if name not in self._memory and not isinstance(split, Arrays)
        }
        self._wanted = lru_cache(5)(self._wanted_of)
        self._epoch, self._feed = 0, None if not streamed else self._streams(streamed)

    def _streams(self, streamed: dict[str, Stored]) -> Feed:
        workers = self.spec.data.loader_workers
        if workers is None:
            workers = min(math.ceil(self.spec.resources.cpus_per_worker), cpus())
        size = max(self.data.size, self.data.test_size)
        part, channels, device = self.steps.part, self.data.channels, self.place.device
        lanes = math.gcd(self.data.lanes, self.spec.batch_size)
        room = 0 if self.data.blocks is None else 2 * math.ceil(lanes / self.place.world) + 2
        return Feed(streamed, channels, self._wanted, self._boxes, self._plan, workers, part, size, device, room)

    def close(self) -> None:
        """End the loader processes."""
        if self._feed is not None:
            self._feed.close()

    def epoch(self, epoch: int, done: int) -> Iterator[tuple[int, Iterator[tuple[int, torch.Tensor, torch.Tensor]]]]:
        """The updates of an epoch from update ``done`` on: ``(update of the epoch, its parts)``.

        A part is ``(number, x, labels)``: float ``(n, C, H, W)`` and int64 ``(n,)`` on the device.
        """
        self._epoch, parts = epoch, self._parts
        batches = self._batches(Pass("train", epoch, done))
        for step in range(done, self.steps.per_epoch):
            yield step, ((part, x, labels) for part, (x, labels) in zip(parts, batches))  # noqa: B905

    def scoring(self, split: Split) -> Iterator[Batch]:
        """This rank's share of the validation or test split, unpadded: inputs ``(n, C, H, W)`` and labels ``(n,)``, on
        the device."""
        return self._batches(Pass("val" if split is self.data.val else "test", self._epoch))

    @property
    def _parts(self) -> range:
        """The numbers of this rank's parts of a global batch."""
        accumulation = self.spec.accumulation
        return range(self.place.rank * accumulation, (self.place.rank + 1) * accumulation)

    def _batches(self, this: Pass) -> Iterator[Batch]:
        """The batches of a pass, augmented where it trains."""
        device, labels = self.place.device, self._labels[this.split]
        augment = self.spec.augment if this.split == "train" else ()
        augment = augment[1:] if self._cuts else augment
        if (memory := self._memory.get(this.split)) is not None:
            batches: Iterator[Batch] = ((each.visits, memory.pick(this, each)) for each in self._wanted(this))
        else:
            assert self._feed is not None
            batches = self._feed.batches(this)
        for visits, images in batches:
            draws = SampleDraws(self.spec.seed.data, this.epoch, visits, device)
            for trick in augment:
                images = trick(images, draws, self.data.size)
            yield self._input(images), put(labels[visits % len(labels)], device)

    def _wanted_of(self, this: Pass) -> list[Wanted]:
        """The batches of a pass: this rank's parts of the global batches, or its share of what is scored."""
        data, part = self.data, self.steps.part
        if this.split != "train":
            mine = torch.arange(len(self._splits[this.split]))
            rank, world = self.place.rank, self.place.world
            mine = mine[rank::world] if data.blocks is None else mine.tensor_split(world)[rank]  # shards of its own
            picks = mine.split(self.spec.evaluation.batch_size) if len(mine) else ()
            return [Wanted(pick, data.test_size, data.crop_ratio) for pick in picks]
        order = self._order(this.epoch)
        visits = [
            order[start : start + part]
            for step in range(this.first, self.steps.per_epoch)
            for start in (step * self.spec.batch_size + number * part for number in self._parts)
        ]
        return [Wanted(each, data.size) for each in visits]

    def _boxes(self, this: Pass, visits: torch.Tensor) -> torch.Tensor | None:
        """What an augmentation cuts out of the streamed images of a batch."""
        split = self._splits[this.split]
        if this.split != "train" or not self._cuts or isinstance(split, Arrays):
            return None
        draws = SampleDraws(self.spec.seed.data, this.epoch, visits)
        return self.spec.augment[0].boxes(draws, torch.from_numpy(split.shapes)[visits % len(split)])

    def _plan(self, this: Pass) -> Pass | None:
        """The streamed pass that follows another one unless the run ends."""
        while True:
            epochs, due = this.epoch + 1, self.spec.evaluation.every_epochs
            last = epochs == self.spec.epochs
            if this.split == "test":
                return None
            if this.split == "train" and (last or epochs % due == 0):
                this = Pass("val", this.epoch)
            else:
                this = Pass("test", this.epoch) if last else Pass("train", epochs)
            if this.split not in self._memory and self._wanted(this):
                return this

    def _order(self, epoch: int) -> torch.Tensor:
        """The visits of an epoch: sample indices, see ``balanced_order`` for more."""
        labels, seed = self.data.train.labels, self.spec.seed.data
        if self.data.balanced_sampling:
            return balanced_order(seed, epoch, torch.tensor(labels))
        batch, repeats, blocks = self.spec.batch_size, self.spec.repeats, self.data.blocks
        if blocks is None:
            once = order(seed, epoch, len(labels))
        else:
            once = sharded_order(seed, epoch, blocks.tolist(), max(1, batch // repeats), self.data.lanes)
        return once if repeats == 1 else repeated(once, repeats, batch)

    def _input(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float ``(n, C, H, W)`` of uint8 ``(n, H, W, C)``; that view is channels_last as it stands."""
        rows = images.flatten(2).to(self.dtype)  # whole rows, for an innermost dimension of 3 is slow on a CPU
        if images.shape[2] not in self._lines:
            self._lines[images.shape[2]] = self._shift.repeat(images.shape[2]), self._scale.repeat(images.shape[2])
        shift, scale = self._lines[images.shape[2]]
        x = rows.sub_(shift).mul_(scale).view(images.shape).permute(0, 3, 1, 2)
        return x if self.spec.channels_last else x.contiguous()

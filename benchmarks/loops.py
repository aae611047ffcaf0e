"""The worlds that ours is compared with: a loop with nothing around it, and the loop as people write it.

Both are written by hand on torch alone; the first one borrows our augmentation functions, so that it has the same work.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from benchmarks.gate import Gate
from jobs import precision, specfile
from jobs.augment.crop import crop
from jobs.augment.flip import flip
from jobs.data.sets import Arrays, Data
from jobs.place import SYNC_BUFFERS
from jobs.spec import JobSpec


def go_on(gate: Gate, rank: int, images: int = 0) -> bool:
    """The message that rank 0 gets at the gate, on every rank."""
    word = torch.tensor([gate.pause(images) if rank == 0 else True])
    dist.broadcast(word, 0)
    return bool(word)


def bare(spec: JobSpec, data: Data, rank: int, world: int, gate: Gate) -> None:
    """DDP in the arithmetic of ``spec``, with the DDP options of our loop, and no more: the floor."""
    assert isinstance(data.train, Arrays)
    spec = precision.resolve(spec, torch.device("cpu"))
    images, labels = torch.from_numpy(data.train.images.copy()), torch.from_numpy(data.train.labels)
    network = spec.model.build(len(data.classes), data.channels)
    if spec.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = nn.parallel.DistributedDataParallel(network, gradient_as_bucket_view=True, **{SYNC_BUFFERS: False})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    part, steps = spec.batch_size // world, len(images) // spec.batch_size
    mean = torch.tensor(data.mean).view(1, -1, 1, 1) * 255
    scale = 1 / (torch.tensor(data.std).view(1, -1, 1, 1) * 255)
    cast, done = precision._AUTOCAST.get(spec.precision), 0
    while go_on(gate, rank, done):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        for step in range(steps):
            index = order[step * spec.batch_size + rank * part :][:part]
            batch = images[index]
            batch = crop(batch, torch.randint(0, 9, (part,)), torch.randint(0, 9, (part,)), 4)
            batch = flip(batch, torch.rand(part) < 0.5)
            x = batch.permute(0, 3, 1, 2).float()
            if not spec.channels_last:
                x = x.contiguous()
            x = x.sub_(mean).mul_(scale)
            with torch.autocast("cpu", cast, enabled=cast is not None):
                loss = nn.functional.cross_entropy(model(x), labels[index])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        done = steps * spec.batch_size


class _Images(Dataset[tuple[Any, int]]):
    def __init__(self, split: Arrays, transform: Any) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.split.images[index])), int(self.split.labels[index])


def conventional(spec: JobSpec, data: Data, rank: int, world: int, gate: Gate, loader_workers: int) -> None:
    """float32, default layout, torchvision's transforms on PIL images in loader processes, DDP as it comes."""
    from torchvision import transforms as T

    assert isinstance(data.train, Arrays)
    transform = T.Compose(
        [T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(data.mean, data.std)]
    )
    images = _Images(data.train, transform)
    sampler: DistributedSampler[Any] = DistributedSampler(images, world, rank)
    loader = DataLoader(
        images,
        batch_size=spec.batch_size // world,
        sampler=sampler,
        num_workers=loader_workers,
        persistent_workers=loader_workers > 0,
        drop_last=True,
    )
    model = nn.parallel.DistributedDataParallel(spec.model.build(len(data.classes), data.channels))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    criterion, done, total = nn.CrossEntropyLoss(), 0, 0.0
    for epoch in itertools.count():
        if not go_on(gate, rank, done):
            return
        sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        done = len(loader) * spec.batch_size


def main() -> None:
    kind, path = sys.argv[1:3]
    spec = specfile.read(path, JobSpec)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    data, gate = spec.data.open(), Gate(rank)
    if kind == "bare":
        bare(spec, data, rank, world, gate)
    else:
        conventional(spec, data, rank, world, gate, int(sys.argv[3]))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

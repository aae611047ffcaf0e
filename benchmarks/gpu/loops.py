"""The loops of stage 4, each a world that runs one segment when it is told: ours, a bare one, and the usual one.

A segment is an epoch without evaluation, from one synchronisation to the next. The bare loop has our augmentation
functions on plain random numbers, torch's own SGD and nothing around them; the usual one is what a tutorial has:
torchvision's transforms on PIL images in loader processes, autocast, the loss read at every step.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.made import place, resolved, synchronize
from jobs import precision
from jobs.augment.crop import crop
from jobs.augment.flip import flip
from jobs.data.sets import Arrays, Data
from jobs.report import CONTINUE, STOP, Progress, Record, Report, Verdict
from jobs.spec import JobSpec
from jobs.train import train

Segment = Callable[[], tuple[int, float]]
"""Runs one: images, seconds."""


class Ours(Report):
    """The real loop in a thread that stands still between its epochs; what the loop reports to."""

    def __init__(self, spec: JobSpec, data: Data, device: str) -> None:
        self.spec = spec.override({"epochs": 10**6, "evaluation.every_epochs": 10**6, "checkpoint.every_epochs": 10**6})
        self.images = len(data.train) // spec.batch_size * spec.batch_size
        self.device, self._go, self._ended = device, queue.Queue[bool](), queue.Queue[BaseException | None]()
        self._leaving = False
        self._thread = threading.Thread(target=self._train, args=(data,), daemon=True)
        self._thread.start()
        self._wait()

    def _train(self, data: Data) -> None:
        try:
            train(self.spec, place(self.device), self, {"data": data})
        except BaseException as error:
            self._ended.put(error)

    def note(self, facts: Mapping[str, str]) -> None:
        """Stand still before the first epoch."""
        self._stand()

    def progress(self, progress: Progress) -> Verdict:
        """Stop the loop that is left."""
        return STOP if self._leaving else CONTINUE

    def record(self, records: Sequence[Record]) -> Verdict:
        """Stand still after an epoch."""
        if any(record.name == "train/loss" for record in records):
            self._stand()
        return STOP if self._leaving else CONTINUE

    def _stand(self) -> None:
        if not self._leaving:
            self._ended.put(None)
            self._leaving = not self._go.get()

    def _wait(self) -> None:
        error = self._ended.get()
        if error is not None:
            raise error

    def __call__(self) -> tuple[int, float]:
        """One epoch; its end has read the losses, so the device is done."""
        began = time.perf_counter()
        self._go.put(True)
        self._wait()
        return self.images, time.perf_counter() - began

    def close(self) -> None:
        """Leave the loop."""
        self._go.put(False)
        self._thread.join(60)


def _network(spec: JobSpec, data: Data, device: torch.device) -> Any:
    network = spec.model.build(len(data.classes), data.channels).to(device)
    if spec.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return torch.compile(network) if spec.compile else network


def _sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)


def bare(spec: JobSpec, data: Data, device: str) -> Segment:
    """Pixels on the device, crop and flip in batches; the arithmetic of ``spec``."""
    assert isinstance(data.train, Arrays)
    where, spec = place(device).device, resolved(spec, device)
    pixels, labels = torch.from_numpy(data.train.images).to(where), torch.from_numpy(data.train.labels).to(where)
    network = _network(spec, data, where)
    optimizer, size = _sgd(network), spec.batch_size
    mean = torch.tensor(data.mean, device=where).view(1, -1, 1, 1) * 255
    scale = 1 / (torch.tensor(data.std, device=where).view(1, -1, 1, 1) * 255)
    steps, cast = len(labels) // size, precision._AUTOCAST.get(spec.precision)

    def segment() -> tuple[int, float]:
        torch.backends.cudnn.benchmark = True
        began = time.perf_counter()
        order = torch.randperm(len(labels), device=where)
        for step in range(steps):
            index = order[step * size :][:size]
            top, left = torch.randint(0, 9, (2, size), device=where)
            batch = flip(crop(pixels.index_select(0, index), top, left, 4), torch.rand(size, device=where) < 0.5)
            x = batch.permute(0, 3, 1, 2).float()
            x = (x if spec.channels_last else x.contiguous()).sub_(mean).mul_(scale)
            with torch.autocast(where.type, cast, enabled=cast is not None):
                loss = nn.functional.cross_entropy(network(x), labels[index])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        synchronize(device)
        return steps * size, time.perf_counter() - began

    return segment


class _Pictures(torch.utils.data.Dataset[tuple[Any, int]]):
    def __init__(self, split: Arrays, transform: Any) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.split.images[index])), int(self.split.labels[index])


def usual(spec: JobSpec, data: Data, device: str, folder: str | None, workers: int) -> Segment:
    """With images from memory, or as JPEGs below ``folder``, cut at random."""
    from torchvision import transforms as T
    from torchvision.datasets import ImageFolder

    where, cast = place(device).device, precision._AUTOCAST.get(resolved(spec, device).precision)
    end = [T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(data.mean, data.std)]
    dataset: Any
    if folder is None:
        assert isinstance(data.train, Arrays)
        dataset = _Pictures(data.train, T.Compose([T.RandomCrop(data.size, padding=4), *end]))
    else:
        dataset = ImageFolder(folder, T.Compose([T.RandomResizedCrop(data.size), *end]))
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=spec.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device == "cuda",
    )
    network = spec.model.build(len(data.classes), data.channels).to(where)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    criterion = nn.CrossEntropyLoss()

    def segment() -> tuple[int, float]:
        total, began = 0.0, time.perf_counter()
        for x, y in loader:
            x, y = x.to(where, non_blocking=True), y.to(where, non_blocking=True)
            optimizer.zero_grad()
            with torch.autocast(where.type, cast, enabled=cast is not None):
                loss = criterion(network(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        synchronize(device)
        return len(loader) * spec.batch_size, time.perf_counter() - began

    return segment


def in_turns(worlds: dict[str, Segment], turns: int, warm: int = 1) -> Iterator[tuple[int, str, float]]:
    """``(turn, name, images/s)`` of segments A B, B A, ...; the first ``warm`` turns are not given."""
    for turn in range(warm + turns):
        for name in list(worlds)[:: -1 if turn % 2 else 1]:
            images, seconds = worlds[name]()
            if turn >= warm:
                yield turn - warm, name, images / seconds

"""From image files to batches of 224 pixels: images a second of a core against what others do, and gaps between passes.

Photographs are cut from scikit-learn's two and written as JPEG (500x375 and 3000x2000, quality 90), PNG and WebP. All
paths cut and resize at random and mirror half of the images, up to uint8 pixels; normalising is left out, since ours is
done on the device. Ours mirrors there too, and augments: with RandAugment a loader process does what it does without.
Each path runs in turn on the same files, in one process with one thread; seconds of CPU count. Goals: 1.7 times
torchvision's transforms on PIL images from originals, 6 times from prepared pixels, 3 times from prepared JPEG; two and
four loader processes 0.9 of their cores; `predict` 0.8 of the rate at which all cores decode; less than 50 ms between
epochs. Hugging Face's `datasets` and `webdataset` are measured where they are installed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.feed_others import Act, others
from benchmarks.measure import SPREAD, Spread, cores, header, keep_memory, number, options, table, workplace
from jobs.augment import RandomResizedCrop
from jobs.data import ImageFolder
from jobs.data.decode import decode
from jobs.data.feed import Pass, _Images, _Task
from jobs.data.jpegs import Jpegs
from jobs.data.loader import Loader
from jobs.data.packed import Packed
from jobs.data.sets import Data, Stored
from jobs.data.source import Source
from jobs.data.streamed import Streamed
from jobs.place import Place
from jobs.predict import predict
from jobs.randomness import SampleDraws
from jobs.spec import JobSpec

SIZE = 224
OURS: dict[str, dict[str, Any]] = {
    "ours, originals": {},
    "ours, prepared pixels": {"prepare": 256},
    "ours, prepared JPEG": {"prepare": 256, "prepare_as": "jpeg"},
}
KINDS = {
    "JPEG 500x375": (500, ".jpg", {"quality": 90}),
    "JPEG 3000x2000": (3000, ".jpg", {"quality": 90}),
    "PNG 500x375": (500, ".png", {}),
    "WebP 500x375": (500, ".webp", {"quality": 90}),
}


def photographs(folder: Path, count: int, width: int, suffix: str, options: dict[str, Any]) -> Path:
    """``count`` files in two class folders: windows of the two photographs, resized."""
    from sklearn.datasets import load_sample_images

    source = [Image.fromarray(photo) for photo in load_sample_images().images]
    shape = (width, round(width * (2 / 3 if width > 1000 else 3 / 4)))
    draws = np.random.default_rng(0)
    for number_ in range(count):
        target = folder / f"class {number_ % 2}" / f"{number_:05}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        wide = int(draws.integers(420, 560))
        tall = wide * shape[1] // shape[0]
        left, top = int(draws.integers(0, 641 - wide)), int(draws.integers(0, 428 - tall))
        window = source[number_ % 2].crop((left, top, left + wide, top + tall))
        window.resize(shape, Image.Resampling.BICUBIC).save(target, **options)
    return folder


def source(folder: Path, **changes: Any) -> Any:
    """The data source, streamed, with shares that leave nearly all to training."""
    return ImageFolder(
        root=str(folder),
        size=SIZE,
        in_memory=False,
        val_fraction=0.05,
        test_fraction=0.05,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    ).model_copy(update=changes)


def ours(split: Stored, count: int) -> Act:
    """What a loader process does for ``count`` images, 32 at a time."""
    room = torch.empty(32 * SIZE * SIZE * 3, dtype=torch.uint8)
    images = _Images({"train": split}, 3, [room], torch.zeros(1, dtype=torch.int64))
    visits = torch.arange(count) % len(split)
    boxes = RandomResizedCrop().boxes(SampleDraws(0, 0, torch.arange(count)), torch.from_numpy(split.shapes)[visits])

    def act() -> None:
        for start in range(0, count, 32):
            rows = slice(start, start + 32)
            assert not images[_Task(0, 0, "train", visits[rows].tolist(), SIZE, 1.0, boxes[rows].tolist())]

    return act


def cpu_s(act: Act) -> float:
    """CPU seconds of a call, of this process."""
    began = time.process_time()
    act()
    return time.process_time() - began


def a_core(given: argparse.Namespace, folder: Path, kind: str) -> None:
    """The table of one kind of files."""
    width, suffix, saved = KINDS[kind]
    count = 40 if given.quick else 60 if width > 1000 else 120
    root = photographs(folder / kind, count, width, suffix, saved)
    data = {name: source(root, **changes).open() for name, changes in OURS.items()}
    assert [type(each.train) for each in data.values()] == [Streamed, Packed, Jpegs]
    for each in data.values():
        each.here(True)
    files = [str(path) for path in sorted(root.glob("*/*"))][: min(len(each.train) for each in data.values())]
    first = files[0]
    with open(first, "rb") as file:
        assert decode(file.read()).size[0] == width
    ways: dict[str, Act | None] = {name: ours(each.train, len(files)) for name, each in data.items()}  # type: ignore[arg-type]
    ways |= others(files, SIZE, folder / f"{kind}.tar")
    there = {name: act for name, act in ways.items() if act is not None}
    took: dict[str, list[float]] = {name: [] for name in there}
    for turn in range(given.pairs + 1):
        for name, act in there.items():
            seconds = cpu_s(act)
            if turn:
                took[name].append(len(files) / seconds)
    base = took["torchvision, PIL"]
    rows = [
        [name, f"{Spread.of(rates).median:,.0f}", *Spread.ratio(rates, base).cells(number(2))]
        for name, rates in took.items()
    ]
    rows += [[name, "not installed", *[""] * len(SPREAD)] for name in ways if name not in there]
    table(f"{kind}: images a second of a core", "path", ("images/s", *(f"ratio, {each}" for each in SPREAD)), rows)


def job(data: Source, batch: int) -> tuple[JobSpec, Data]:
    """A job on photographs, and its data, opened."""
    spec = JobSpec.model_validate(
        {
            "name": "feed",
            "data": data.model_dump(mode="json"),
            "model": {"kind": "cnn"},
            "augment": [{"kind": "random_resized_crop"}, {"kind": "flip"}],
            "optimizer": {"kind": "sgd", "lr": 0.1},
            "epochs": 100,
            "batch_size": batch,
        }
    )
    opened = spec.data.open()
    opened.here(True)
    return spec, opened


def between(given: argparse.Namespace, root: Path) -> None:
    """How long the loop waits for the first batch of an epoch and of an evaluation, where it computes meanwhile."""
    spec, data = job(source(root, loader_workers=1), 16 if given.quick else 32)
    gaps: dict[str, list[float]] = {"epoch": [], "evaluation": [], "update within an epoch": []}
    with closing(Loader(spec, data, Place(), spec.steps(len(data.train)))) as loader:
        for epoch in range(2 if given.quick else given.pairs):
            kind = "epoch"
            for batch in _waits(loader, epoch, gaps, kind):
                _compute(len(batch))
            began = time.perf_counter()
            for _, labels in loader.scoring(data.val):
                if epoch:
                    gaps["evaluation"].append(time.perf_counter() - began)
                _compute(len(labels))
                break
    rows = [
        [name, *Spread.of([1000 * each for each in waits]).cells(number(1))] for name, waits in gaps.items() if waits
    ]
    table("ms that the loop waits for the first batch of", "", SPREAD, rows)


def _waits(loader: Loader, epoch: int, gaps: dict[str, list[float]], kind: str) -> Iterator[torch.Tensor]:
    began = time.perf_counter()
    for _, parts in loader.epoch(epoch, 0):
        for _, x, _ in parts:
            if epoch:
                gaps[kind].append(time.perf_counter() - began)
            yield x
            kind, began = "update within an epoch", time.perf_counter()


def _compute(count: int) -> None:
    """What a device does with a batch, at 250 images a second: this process sleeps."""
    time.sleep(count / 250)


def scaling(given: argparse.Namespace, root: Path) -> None:
    """Images a second of several loader processes and the loop's on as many cores, against one and the loop's on one.

    The loop's process draws the boxes and copies what they make; it has no core of its own in either case.
    """
    counts = [each for each in (1, 2, 4) if each <= (os.cpu_count() or 1)]
    for title, changes in OURS.items():
        rates: dict[int, list[float]] = {each: [] for each in counts}
        for _ in range(1 if given.quick else given.pairs):
            for workers in counts:
                with cores(workers):
                    rates[workers].append(_rate(source(root, loader_workers=workers, **changes), given.quick))
        rows = [
            [
                str(workers),
                f"{Spread.of(rate).median:,.0f}",
                *Spread.ratio(rate, [each * workers for each in rates[1]]).cells(number(2)),
            ]
            for workers, rate in rates.items()
        ]
        table(f"{title}: wall time, and share of so many times one", "processes, cores", ("images/s", *SPREAD), rows)


def _rate(data: Source, quick: bool) -> float:
    spec, opened = job(data, 16 if quick else 32)
    with closing(Loader(spec, opened, Place(), spec.steps(len(opened.train)))) as loader:
        assert loader._feed is not None
        began, seen = 0.0, 0
        for epoch in range(2 if quick else 6):
            if epoch == 1:  # the first one starts the processes
                began, seen = time.perf_counter(), 0
            for visits, _ in loader._feed.batches(Pass("train", epoch)):
                seen += len(visits)
        return seen / (time.perf_counter() - began)


def predicting(given: argparse.Namespace, root: Path) -> None:
    """``predict`` with a small network, against all cores that do nothing but decode."""
    from jobs.data.ahead import ahead
    from jobs.data.decode import decoded
    from jobs.models import CNN
    from jobs.models.stored import LoadedModel

    files = [str(path) for path in sorted(root.glob("*/*"))] * (1 if given.quick else 5)
    network = CNN(width=4).build(2, 3).eval()
    model = LoadedModel(network, ("a", "b"), 64, 3, (0.5,) * 3, (0.25,) * 3, {})

    def bare(path: str) -> int:
        return decoded(Path(path).read_bytes(), 3, True).pixels.shape[0]

    rates: dict[str, list[float]] = {"decoding alone": [], "predict": []}
    for turn in range((1 if given.quick else given.pairs) + 1):
        for name, act in (
            ("decoding alone", lambda: list(ahead(bare, files, 256))),
            ("predict", lambda: list(predict(model, iter(files), torch.device("cpu")))),
        ):
            began = time.perf_counter()
            assert len(act()) == len(files)
            if turn:
                rates[name].append(len(files) / (time.perf_counter() - began))
    rates = rates if rates["predict"] else {name: [1.0] for name in rates}
    rows = [
        [name, f"{Spread.of(rate).median:,.0f}", *Spread.ratio(rate, rates["decoding alone"]).cells(number(2))]
        for name, rate in rates.items()
    ]
    table(f"predict, {len(files)} photographs, all cores, wall time", "", ("images/s", *SPREAD), rows)


def main() -> None:
    parser = options(__doc__, 7)
    parser.add_argument("--only", choices=["core", "between", "scaling", "predict"], help="one of the tables")
    given = parser.parse_args()
    if given.quick:
        given.pairs = 1
    header(given)
    torch.set_num_threads(1)
    keep_memory()
    with workplace() as folder:
        if given.only in (None, "core"):
            for kind in KINDS:
                a_core(given, folder, kind)
        root = photographs(folder / "photographs", 60 if given.quick else 1000, *KINDS["JPEG 500x375"])
        for name, measure in (("between", between), ("scaling", scaling), ("predict", predicting)):
            if given.only in (None, name):
                measure(given, root)


if __name__ == "__main__":
    main()

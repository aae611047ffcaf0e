"""Stage 5: from JPEGs to the device, and how fast a network eats them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.cell import Cell, Row, Setting, Stage
from benchmarks.gpu.fast import CORES, NETWORKS, compared, rate_of
from benchmarks.gpu.loops import Ours, Segment, usual
from benchmarks.gpu.made import job, place, spread, synchronize
from jobs import precision
from jobs.data import memory
from jobs.data.loader import Loader
from jobs.data.sets import Data
from jobs.spec import JobSpec


def _jpeg(path: str) -> None:
    import numpy as np
    from PIL import Image

    source = np.random.default_rng(abs(hash(path)) % 2**32)
    coarse = Image.fromarray(source.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)


@contextmanager
def photographs(
    prepare: int | bool, setting: Setting, count: int, **changes: Any
) -> Iterator[tuple[JobSpec, Data, str]]:
    """A job on JPEGs of 500 x 375 pixels that are cut at random and mirrored, its data, and the folder of the images.

    Args:
        prepare: the short side that they are made smaller to beforehand; false decodes them every epoch.
        setting: how and where.
        count: of images to train on.
        changes: to the job.
    """
    fields: dict[str, Any] = {**NETWORKS["ResNet-50 at 224 px"], **changes}
    if setting.quick:
        fields |= {"model": {"kind": "resnet", "depth": 8, "width": 8}, "batch_size": 16}
    with tempfile.TemporaryDirectory() as scratch:
        paths = []
        for split, some in (("train", count), ("val", 2 * fields["batch_size"])):
            for label in range(2):
                (Path(scratch) / split / f"class{label}").mkdir(parents=True)
            paths += [f"{scratch}/{split}/class{i % 2}/{i}.jpg" for i in range(some)]
        with ProcessPoolExecutor(setting.pick(CORES, 1)) as pool:
            list(pool.map(_jpeg, paths, chunksize=64))
        fields["data"] = {"kind": "image_folder", "root": scratch, "size": setting.pick(224, 32), "in_memory": False}
        fields["data"] |= {"loader_workers": setting.pick(CORES, 0), "mean": [0.5] * 3, "std": [0.25] * 3}
        fields["data"] |= {"val_fraction": 0.05, "prepare": prepare}
        spec = job(**fields, augment=[{"kind": "random_resized_crop"}, {"kind": "flip"}])
        data = spec.data.open()
        data.here(True)
        yield spec, data, scratch


def streamed(prepare: int | bool, setting: Setting) -> Row:
    """Photographs by all cores to ResNet-50; ours and the usual loop."""
    with photographs(prepare, setting, setting.pick(8192, 32)) as (spec, data, folder):
        workers = spec.data.loader_workers
        ours = Ours(spec, data, setting.device)
        worlds: dict[str, Segment] = {
            "ours": ours,
            "usual": usual(spec, data, setting.device, f"{folder}/train", workers or 0),
        }
        try:
            row = compared(worlds, spec, data, setting, 3)
        finally:
            ours.close()
    return row | {"loader processes": workers}


def feeding(setting: Setting) -> Row:
    """Photographs as batches on the device, cut and mirrored, with no network: images/s of the feed alone."""
    row: Row = {}
    for name, prepare, resident in (
        ("originals", False, True),
        ("prepared, loader processes", 256, False),
        ("prepared, on the card", 256, True),
    ):
        fits = memory.fits if resident else lambda size, device: False
        with photographs(prepare, setting, setting.pick(8192, 32)) as (spec, data, _):
            spec = spec.override({"epochs": 10, "evaluation.every_epochs": 10})  # epochs follow one another
            steps, rates = spec.steps(len(data.train)), []
            with (
                precision.backends(spec, place(setting.device).device),
                mock.patch.object(memory, "fits", fits),
                closing(Loader(spec, data, place(setting.device), steps)) as feed,
            ):
                for epoch in range(setting.pick(4, 2)):
                    began = time.perf_counter()
                    for _, parts in feed.epoch(epoch, 0):
                        for _ in parts:
                            pass
                    synchronize(setting.device)
                    rates.append(steps.per_epoch * spec.batch_size / (time.perf_counter() - began))
        row[name] = spread(rates[1:])  # the first one starts the processes
    return {"images/s": row, "number of cores": CORES}


def decoding(setting: Setting) -> Row:
    """JPEGs of 500 x 375 pixels decoded by all cores, and by the card's decoder in batches of 128."""
    from torchvision.io import decode_jpeg

    from jobs.data.ahead import ahead
    from jobs.data.decode import decoded

    count, batch = setting.pick(2048, 8), setting.pick(128, 4)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "0.jpg")
        _jpeg(str(path))
        files = [path.read_bytes()] * count
    encoded = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    rates: dict[str, list[float]] = {"cores": [], "card": []}

    def cores() -> None:
        for _ in ahead(lambda file: decoded(file, 3, False), files, 4 * batch):
            pass

    def card() -> None:
        for start in range(0, count, batch):
            decode_jpeg(encoded[start : start + batch], device=setting.device)

    for _ in range(setting.pick(5, 1)):
        for name, act in (("cores", cores), ("card", card)):
            rates[name].append(count / rate_of(act, setting.device, 1))
    theirs = decode_jpeg(encoded[:1], device=setting.device)[0].cpu().permute(1, 2, 0).int()
    apart = (theirs - torch.from_numpy(decoded(files[0], 3, False).pixels).int()).abs().max()
    shown = {f"images/s, {name}": spread(values) for name, values in rates.items()}
    return {"number of cores": CORES, **shown, "largest difference of a pixel": int(apart)}


def cells(setting: Setting) -> list[Cell]:
    """The feed alone first."""
    return [
        Cell("feeding JPEGs to no network", feeding, 90.0),
        Cell("decoding JPEGs", decoding, 30.0),
        Cell("JPEGs, ResNet-50 at 224 px", partial(streamed, False), 150.0),
        Cell("JPEGs made smaller once, ResNet-50 at 224 px", partial(streamed, 256), 150.0),
    ]


STAGE = Stage("feed", "JPEGs: how fast they get to the device", 240.0, cells)

"""Time inside each trick as a share of a training step, and images/s of batched augmentation against one at a time.

Every kind of ``jobs.batch`` and ``jobs.augment`` has a row, by itself: its defaults, or, where it has to be told
something, the first example of the contract tests. Goals: at most 2 % of a ResNet-20 step at batch 256, each; batched
crop and flip at least 7 times as fast as torchvision's v2 transforms image by image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError

from benchmarks.measure import SPREAD, Spread, header, number, options, out, percent, recipe, table, workplace
from jobs import precision, specfile
from jobs.augment import AugmentSpec
from jobs.backward import one_hot
from jobs.batch import At, BatchSpec
from jobs.data.loader import Loader
from jobs.data.sets import Arrays, Data
from jobs.place import Place
from jobs.randomness import SampleDraws
from jobs.spec import JobSpec

WARM_UP = 2
Act = Callable[[int], object]


def every(union: Any, examples: str) -> list[Any]:
    """One spec of each kind in a discriminated union; ``examples`` is the module with the contract's examples."""
    members = get_args(union)[0]
    return [_one(kind, examples) for kind in (get_args(members) or (members,))]


def _one(kind: type, examples: str) -> Any:
    try:
        return kind()
    except ValidationError:
        import importlib

        return next(e for e in importlib.import_module(examples).EXAMPLES if type(e) is kind)


def seconds(act: Act, turn: int, device: torch.device) -> float:
    """How long it takes, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    act(turn)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def training_step(spec: JobSpec, data: Data, device: torch.device, x: torch.Tensor, y: torch.Tensor) -> Act:
    """Forward, backward and update of the recipe's network on that batch."""
    network = spec.model.build(len(data.classes), data.channels).to(device)
    if spec.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def step(turn: int) -> None:
        with precision.autocast(spec, device):
            loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def tricks(spec: JobSpec, data: Data, device: torch.device) -> Iterator[tuple[str, Act, Act]]:
    """Name, the trick, and the step it is measured against."""
    assert isinstance(data.train, Arrays)
    size = spec.batch_size
    images = torch.from_numpy(data.train.images[:size].copy()).to(device)
    labels, index = torch.from_numpy(data.train.labels[:size]).to(device), torch.arange(size, device=device)
    loader = Loader(spec, data, Place(device=device), spec.steps(len(data.train)))
    x, y = loader._input(images), one_hot(labels, len(data.classes), torch.float32)
    step = training_step(spec, data, device, x, y)
    for trick in every(BatchSpec, "tests.contracts.test_batch"):

        def act(turn: int, trick: Any = trick) -> object:
            at = At(0, turn, 0, 1000, 100_000)
            return trick(x, y, trick.source(0, at), at)

        yield f"batch.{trick.kind}", act, step
    for trick in every(AugmentSpec, "tests.contracts.test_augment"):

        def act(turn: int, trick: Any = trick) -> object:
            return trick(images, SampleDraws(0, turn, index), data.size)

        yield f"augment.{trick.kind}", act, step


def feeds(spec: JobSpec, data: Data, device: torch.device, count: int) -> dict[str, Act]:
    """Ways to crop, flip and normalise ``count`` images into batches."""
    from PIL import Image
    from torchvision.transforms import v2

    split = data.train
    assert isinstance(split, Arrays)
    loader = Loader(spec, data, Place(device=device), spec.steps(len(split)))
    moves = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
    floats = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(data.mean), list(data.std))]
    on_tensors, on_pil = v2.Compose([*moves, *floats]), v2.Compose([*moves, v2.ToImage(), *floats])

    def ours(turn: int) -> None:
        for _, parts in loader.epoch(turn, len(split) // spec.batch_size - count // spec.batch_size):
            for _ in parts:
                pass

    def one_by_one(turn: int, transform: Any, read: Any) -> None:
        for start in range(0, count, spec.batch_size):
            torch.stack([transform(read(i)) for i in range(start, start + spec.batch_size)]).to(device)

    def tensor(i: int) -> torch.Tensor:
        return torch.from_numpy(split.images[i]).permute(2, 0, 1)

    return {
        "ours, batched": ours,
        "v2, tensors one by one": lambda turn: one_by_one(turn, on_tensors, tensor),
        "v2, PIL images one by one": lambda turn: one_by_one(turn, on_pil, lambda i: Image.fromarray(split.images[i])),
    }


def shares(folder: Path, given: Any, device: torch.device) -> None:
    """The table of tricks."""
    spec = precision.resolve(specfile.read(recipe(folder, 4096, *_alone(given)), JobSpec), device)
    rows, over = [], 0
    for name, act, step in tricks(spec, spec.data.open(), device):
        ratios, inside = [], []
        for turn in range(WARM_UP + given.pairs):
            whole = seconds(step, turn, device)
            inside.append(seconds(act, turn, device))
            ratios.append(inside[-1] / whole)
        spread = Spread.of(ratios[WARM_UP:])
        over += spread.median > 0.02
        rows.append([name, *spread.cells(percent), number(2)(1e3 * Spread.of(inside[WARM_UP:]).median)])
    table(
        f"time inside a trick as a share of a {spec.precision} ResNet-20 step at batch {given.batch}, "
        f"{torch.get_num_threads()} thread, {device.type}; goal at most 2 %",
        *("trick", [*SPREAD, "ms"], rows),
    )
    out.print(f"{over} of {len(rows)} are above the goal")


def against_v2(folder: Path, given: Any, device: torch.device) -> None:
    """The table of images a second."""
    count = given.batch if given.quick else 8 * given.batch
    spec = specfile.read(recipe(folder, 4 * count, *_alone(given)), JobSpec)
    ways = feeds(spec, spec.data.open(), device, count)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(WARM_UP + given.pairs):
        for name, act in list(ways.items())[:: -1 if turn % 2 else 1]:
            rate = count / seconds(act, turn, device)
            if turn >= WARM_UP:
                rates[name].append(rate)
    rows = [[name, *Spread.of(values).cells(number(0))] for name, values in rates.items()]
    table(f"images/s of crop, flip and normalising, one process, {device.type}", "way", SPREAD, rows)
    first, *others = rates
    rows = [[f"ours / {name}", *Spread.ratio(rates[first], rates[name]).cells(number(1)), "7"] for name in others]
    table("ratios of images/s, by turns", "ratio", [*SPREAD, "goal at least"], rows)


def _alone(given: Any) -> list[str]:
    return [f"batch_size={given.batch}", "resources.workers=1"]


def main() -> None:
    parser = options(__doc__, pairs=15)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.quick:
        given.pairs = 2
    header(given)
    torch.set_num_threads(given.threads)
    with workplace() as folder:
        shares(folder, given, torch.device(given.device))
        against_v2(folder, given, torch.device(given.device))


if __name__ == "__main__":
    main()

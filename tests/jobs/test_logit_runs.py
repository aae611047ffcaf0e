"""Kept logits in runs: the same weights with and without them, and who shares them with whom."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from jobs import models
from jobs.logits.key import key_of
from jobs.logits.store import LogitCache, epoch_bytes
from jobs.outcome import keep_model
from jobs.place import Place
from jobs.report import Keep
from jobs.spec import JobSpec
from jobs.train import train
from tests import world
from tests.jobs.digits_job import job

CPU = torch.device("cpu")
PLENTY = 2**30
UPDATES = 20
"""Of an epoch of digits in batches of 64."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes of ``tests.world``."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> Any:
    return job().data.open()


@pytest.fixture(scope="module")
def teacher(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    outcome = train(job(epochs=1, model__width=16, schedule__warmup_epochs=0), Place(), Keep(), {"data": digits})
    keep_model(str(folder), outcome, digits)
    return folder


def taught(teacher: Path, **changes: Any) -> Any:
    return job(**{"distillation": {"teacher": {"kind": "model", "path": str(teacher)}}, "epochs": 2, **changes})


def run(spec: Any, digits: Any, teacher: Path, cache: LogitCache | None, start: Any = None) -> tuple[Any, Keep]:
    """The trained weights and what was reported."""
    report = Keep()
    assets = {"data": digits, "teacher": str(teacher)} | ({"logits": cache} if cache else {})
    outcome = train(spec, Place(), report, assets, start)
    if cache:
        cache.close()
    assert outcome.network is not None
    return outcome.network.state_dict(), report


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@contextmanager
def calls() -> Iterator[list[int]]:
    """Forward passes of frozen networks while it is open; a student is none."""
    counted: list[int] = []

    def count(module: Any, args: Any, output: Any) -> None:
        if isinstance(module, torch.nn.Sequential) and not any(p.requires_grad for p in module.parameters()):
            counted.append(len(output))

    hook = register_module_forward_hook(count)
    try:
        yield counted
    finally:
        hook.remove()


@pytest.fixture(scope="module")
def alone(teacher: Path, digits: Any) -> tuple[Any, Keep]:
    """Without any cache."""
    return run(taught(teacher), digits, teacher, None)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp64"])
def test_weights_and_losses_are_equal_bit_for_bit(teacher: Path, digits: Any, tmp_path: Path, precision: str) -> None:
    spec = taught(teacher, precision=precision)
    expected, plain = run(spec, digits, teacher, None)
    for _ in range(2):  # it writes, then it reads
        got, report = run(spec, digits, teacher, LogitCache(tmp_path, PLENTY))
        assert same(got, expected)
        for name in ("train/loss", "train/loss_distillation"):
            assert report.series(name) == plain.series(name)


def test_a_second_run_never_calls_the_teacher(teacher: Path, digits: Any, tmp_path: Path) -> None:
    for passes in (2 * UPDATES, 0):
        cache = LogitCache(tmp_path, PLENTY)
        with calls() as counted:
            run(taught(teacher), digits, teacher, cache)
        assert len(counted) == passes
        assert (cache.asked, cache.read) == (2 * UPDATES, 2 * UPDATES - passes)


def test_runs_that_differ_after_the_input_share(teacher: Path, digits: Any, tmp_path: Path) -> None:
    run(taught(teacher), digits, teacher, LogitCache(tmp_path, PLENTY))
    changes = {"distillation__temperature": 9.0, "batch__label_smoothing__epsilon": 0.0, "optimizer__lr": 0.1}
    spec, cache = taught(teacher, **changes), LogitCache(tmp_path, PLENTY)
    got, _ = run(spec, digits, teacher, cache)
    assert cache.read == cache.asked > 0
    assert same(got, run(spec, digits, teacher, None)[0])


def test_a_run_goes_on_in_the_middle_of_an_epoch(teacher: Path, digits: Any, alone: Any, tmp_path: Path) -> None:
    spec = taught(teacher, checkpoint__every_steps=9)
    _, report = run(spec, digits, teacher, None)
    start = next(state for state in report.checkpoints if state.step == UPDATES + 7)
    for read in (0, UPDATES - 7):
        cache = LogitCache(tmp_path, PLENTY)
        got, _ = run(spec, digits, teacher, cache, start)
        assert same(got, alone[0])
        assert (cache.asked, cache.read) == (UPDATES - 7, read)


def test_workers_and_accumulation_share(teacher: Path, digits: Any, tmp_path: Path) -> None:
    spec = taught(teacher, resources__workers=2, precision="fp64")
    world.run(2, _rank, spec.model_dump_json(), str(teacher), str(tmp_path))
    cache = LogitCache(tmp_path, PLENTY)
    run(taught(teacher, accumulation=2, precision="fp64"), digits, teacher, cache)
    assert cache.read == cache.asked == 4 * UPDATES


def _rank(spec: str, teacher: str, folder: str) -> int:
    job_ = JobSpec.model_validate_json(spec)
    cache = LogitCache(folder, PLENTY)
    place = Place.current(False)
    train(job_, place, Keep(), {"data": job_.data.open(), "teacher": teacher, "logits": cache})
    cache.close()
    return cache.read


def test_two_processes_at_once(teacher: Path, digits: Any, alone: Any, tmp_path: Path) -> None:
    spec = taught(teacher).model_dump_json()
    first, second = world.run(2, _by_itself, spec, str(teacher), str(tmp_path))
    assert same(first, alone[0]) and same(second, alone[0])
    cache = LogitCache(tmp_path, PLENTY)
    assert same(run(taught(teacher), digits, teacher, cache)[0], alone[0])
    assert cache.read == cache.asked


def _by_itself(spec: str, teacher: str, folder: str) -> dict[str, torch.Tensor]:
    job_ = JobSpec.model_validate_json(spec)
    return dict(run(job_, job_.data.open(), Path(teacher), LogitCache(folder, PLENTY))[0])


def test_what_is_damaged_is_computed_again(teacher: Path, digits: Any, alone: Any, tmp_path: Path) -> None:
    run(taught(teacher), digits, teacher, LogitCache(tmp_path, PLENTY))
    first, second = sorted(tmp_path.glob("*/epoch_*"))
    record = first.stat().st_size // UPDATES
    with open(first, "r+b") as file:
        file.seek(3 * record + 100)
        flipped = bytes([file.read(1)[0] ^ 1])
        file.seek(3 * record + 100)
        file.write(flipped)
    os.truncate(second, 5 * record + 10)
    cache = LogitCache(tmp_path, PLENTY)
    assert same(run(taught(teacher), digits, teacher, cache)[0], alone[0])
    assert cache.read == (UPDATES - 1) + 5
    mended = LogitCache(tmp_path, PLENTY)
    run(taught(teacher), digits, teacher, mended)
    assert mended.read == mended.asked


def test_the_bytes_are_bounded(teacher: Path, digits: Any, alone: Any, tmp_path: Path) -> None:
    size = epoch_bytes(taught(teacher), len(digits.train), 10)
    for read in (0, UPDATES):
        cache = LogitCache(tmp_path, size + size // 2)
        assert same(run(taught(teacher), digits, teacher, cache)[0], alone[0])
        assert [path.stat().st_size for path in tmp_path.glob("*/epoch_*")] == [size]
        assert cache.read == read, "the first epoch is kept, for which there is room"
    nothing = LogitCache(tmp_path / "small", size - 1)
    assert same(run(taught(teacher), digits, teacher, nothing)[0], alone[0])
    assert not list((tmp_path / "small").glob("*/epoch_*"))


def test_a_folder_that_cannot_be_used_stops_no_run(
    teacher: Path, digits: Any, alone: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        got, _ = run(taught(teacher), digits, teacher, LogitCache(tmp_path / "file" / "logits", PLENTY))
    assert same(got, alone[0])
    assert [record.message.split(":")[0] for record in caplog.records] == ["a teacher's logits are not kept"]


def keys(teacher: Path, digits: Any, *specs: Any) -> list[str]:
    loaded = models.load(teacher)
    return [key_of(spec, digits, loaded, CPU) for spec in specs]


SMOOTHING, MIXUP = {"kind": "label_smoothing"}, {"kind": "mixup", "share": 0.5}
CUTMIX, CUTOUT = {"kind": "cutmix", "share": 0.5}, {"kind": "cutout", "size": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"batch__label_smoothing__epsilon": 0.3},
        {"batch__label_smoothing__form": "others"},
        {"batch__label_smoothing": None},
        {"batch": [{"kind": "mixup"}, {"kind": "label_smoothing"}]},
        {"distillation__temperature": 1.5},
        {"distillation__weight": 2.0},
        {"distillation__hard_weight": 0.0},
        {"schedule__warmup_epochs": 0},
        {"optimizer__lr": 0.3},
        {"model__width": 4},
        {"seed__init": 3},
        {"epochs": 7},
        {"ema": {"decay": 0.9}},
    ],
    ids=str,
)
def test_what_comes_after_the_input_shares_a_key(teacher: Path, digits: Any, changes: dict[str, Any]) -> None:
    one, other = keys(teacher, digits, taught(teacher), taught(teacher, **changes))
    assert one == other


@pytest.mark.parametrize(
    "changes",
    [
        {"batch__mixup__alpha": 0.3},
        {"batch__mixup__share": 0.5},
        {"batch__mixup__per": "sample"},
        {"batch__mixup__off_epochs": 1},
        {"batch__mixup": None},
        {"batch__cutout": {"size": 2}},
        {"batch__random_erasing__probability": 0.1},
        {"augment__crop__padding": 2},
        {"augment": []},
        {"seed__data": 1},
        {"batch_size": 32},
        {"accumulation": 2},
        {"precision": "bf16"},
        {"channels_last": False},
    ],
    ids=str,
)
def test_what_touches_the_input_or_the_arithmetic_does_not(teacher: Path, digits: Any, changes: dict[str, Any]) -> None:
    one, other = keys(teacher, digits, taught(teacher), taught(teacher, **changes))
    assert one != other


def test_order_and_length_count_where_a_trick_looks_at_them(teacher: Path, digits: Any) -> None:
    orders = [
        [CUTOUT, MIXUP, CUTMIX],
        [SMOOTHING, CUTOUT, MIXUP, CUTMIX],
        [MIXUP, CUTOUT, CUTMIX],
        [CUTOUT, CUTMIX, MIXUP],
    ]
    first, smoothed, *others = keys(teacher, digits, *(taught(teacher, batch=order) for order in orders))
    assert first == smoothed
    assert len({first, *others}) == 3
    off = [taught(teacher, batch__mixup__off_epochs=1, epochs=epochs) for epochs in (2, 3)]
    assert len(set(keys(teacher, digits, *off))) == 2


def test_other_data_teachers_and_threads_have_other_keys(teacher: Path, digits: Any, tmp_path: Path) -> None:
    loaded, spec = models.load(teacher), taught(teacher)
    variants = [
        replace(digits, **change) for change in ({"digest": "x"}, {"mean": (0.4,)}, {"balanced_sampling": True})
    ]
    found = {key_of(spec, data, loaded, CPU) for data in (digits, *variants)}
    found.add(key_of(spec, digits, replace(loaded, meta={**loaded.meta, "sha256": "x"}), CPU))
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        found.add(key_of(spec, digits, loaded, CPU))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 6
    assert key_of(spec, replace(digits, class_weights=(1.0,) * 10), loaded, CPU) in found

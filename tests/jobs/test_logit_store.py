"""Kept logits on disk: nothing is believed that was not written whole, and the bytes are bounded."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.batch import At
from jobs.logits.store import LogitCache, LogitStore
from jobs.randomness import generator

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
UPDATES = 20
BIG = (256, 2000)
"""Shape of an answer that takes a while to write."""


def at(step: int, part: int = 0) -> At:
    return At(epoch=step // UPDATES, step=step, part=part, epochs=10, steps=10 * UPDATES)


def answer(step: int, part: int = 0, shape: tuple[int, int] = (4, 3)) -> torch.Tensor:
    return torch.randn(shape, generator=generator("answer", step, part)).to(torch.float16)


def store(folder: Path, name: str = "k", max_bytes: int = 2**30, shape: tuple[int, int] = (4, 3), **how: Any) -> Any:
    return LogitStore(LogitCache(folder, max_bytes), name, shape, 2, UPDATES, CPU, **how)


def test_records_are_believed_at_their_own_place_alone(tmp_path: Path) -> None:
    mine = store(tmp_path)
    for part in (0, 1):
        mine.write(at(3, part), answer(3, part))
    assert torch.equal(mine.read(at(3, 1)), answer(3, 1))
    assert mine.read(at(4)) is None and mine.read(at(3 + UPDATES)) is None
    mine.close()
    path = min(tmp_path.glob("k/epoch_*"))
    whole, record = path.read_bytes(), 2 * 4 * 3 + 4
    six = 6 * record
    moved = whole[: six + record] + whole[six : six + record] + whole[six + 2 * record :]
    path.write_bytes(moved)
    again = store(tmp_path)
    assert torch.equal(again.read(at(3, 0)), answer(3, 0))
    assert again.read(at(3, 1)) is None, "the record of another part was believed"
    other = store(tmp_path, "other")
    other.folder.joinpath(path.name).write_bytes(whole)
    assert other.read(at(3, 0)) is None, "the record of another key was believed"
    zeros = store(tmp_path, "zeros")
    zeros.write(at(0), torch.zeros(4, 3, dtype=torch.float16))
    assert torch.equal(zeros.read(at(0)), torch.zeros(4, 3).half()) and zeros.read(at(0, 1)) is None


@pytest.mark.parametrize("torn", [1, 13, 24, 27])
def test_half_a_record_is_not_believed(tmp_path: Path, torn: int) -> None:
    mine = store(tmp_path)
    mine.write(at(0), answer(0))
    mine.close()
    (path,) = tmp_path.glob("k/epoch_*")
    whole = path.read_bytes()
    path.write_bytes(whole[:torn] + bytes(28 - torn) + whole[28:])
    again = store(tmp_path)
    assert again.read(at(0)) is None
    again.write(at(0), answer(0))
    assert torch.equal(again.read(at(0)), answer(0))


@pytest.mark.slow
def test_a_killed_writer_leaves_nothing_wrong(tmp_path: Path) -> None:
    """It is killed while it writes records of a megabyte over and over, other ones each time."""
    for kill in range(3):
        name = f"k{kill}"
        code = f"from tests.jobs.test_logit_store import write_for_ever; write_for_ever({str(tmp_path)!r}, {name!r})"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        time.sleep(0.05 * kill)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        mine, whole = store(tmp_path, name, shape=BIG), 0
        for step in range(UPDATES):
            for part in range(2):
                got = mine.read(at(step, part))
                whole += got is not None
                assert got is None or any(torch.equal(got, answer(step, part + again, BIG)) for again in (0, 2))
        assert whole
        mine.close()


def write_for_ever(folder: str, name: str) -> None:
    mine = store(Path(folder), name, shape=BIG)
    answers = {(step, part): answer(step, part, BIG) for step in range(UPDATES) for part in range(4)}
    mine.write(at(0), answers[0, 0])
    print("writing", flush=True)
    while True:
        for (step, part), logits in answers.items():
            mine.write(at(step, part % 2), logits)


def test_writing_in_the_background_keeps_the_same(tmp_path: Path) -> None:
    mine = store(tmp_path, background=True)
    answers = {(step, part): answer(step, part) for step in (0, 1, UPDATES, UPDATES + 1) for part in (0, 1)}
    for (step, part), logits in answers.items():
        changing = logits.clone()
        mine.write(at(step, part), changing)
        changing.zero_()  # what is written was copied before
    mine.close()
    mine.close()
    again = store(tmp_path)
    assert all(torch.equal(again.read(at(step, part)), logits) for (step, part), logits in answers.items())


def test_a_slow_disk_costs_answers_and_no_time(tmp_path: Path) -> None:
    mine, gate = store(tmp_path, background=True), threading.Event()
    mine._pool.submit(gate.wait)
    places = [(step, part) for step in range(2 * UPDATES) for part in (0, 1)]
    for step, part in places:
        mine.write(at(step, part), answer(step, part))
    gate.set()
    mine.close()
    again = store(tmp_path)
    known = [(step, part) for step, part in places if again.read(at(step, part)) is not None]
    assert known == places[:64]


def test_what_was_used_least_recently_goes_first_unless_it_is_held(tmp_path: Path) -> None:
    size = UPDATES * 2 * 28

    def use(name: str) -> LogitStore:
        mine: LogitStore = store(tmp_path, name, 2 * size)
        mine.write(at(0), answer(0))
        return mine

    def kept() -> set[str]:
        return {path.parent.name for path in tmp_path.glob("*/epoch_*")}

    for name in ("a", "b", "a"):
        use(name).close()
    use("c").close()
    assert kept() == {"a", "c"}, "b was used least recently"
    held = use("a")
    use("d").close()
    assert kept() == {"a", "d"}
    other = use("d")
    late = use("e")
    assert kept() == {"a", "d"} and late.read(at(0)) is None, "both are in use"
    assert held.read(at(0)) is not None and other.read(at(0)) is not None
    for each in (held, other, late):
        each.close()
    use("e").close()
    assert kept() == {"d", "e"}


def test_a_folder_that_is_deleted_meanwhile_stops_no_run(tmp_path: Path) -> None:
    mine = store(tmp_path / "logits")
    mine.write(at(0), answer(0))
    shutil.rmtree(tmp_path / "logits")
    assert torch.equal(mine.read(at(0)), answer(0))
    mine.write(at(UPDATES), answer(UPDATES))
    assert torch.equal(mine.read(at(UPDATES)), answer(UPDATES))
    mine.close()

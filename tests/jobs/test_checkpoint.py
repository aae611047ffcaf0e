"""Which checkpoints stay."""

from pathlib import Path

import torch

from jobs.checkpoint import State, Store


def test_what_is_left_of_a_life_that_is_over_takes_the_place_of_no_sound_one(tmp_path: Path) -> None:
    store = Store(str(tmp_path), keep=1)
    half = tmp_path / "step_000000200"
    half.mkdir(parents=True)
    (half / "tensors.safetensors").write_bytes(b"half")
    store.save(State(150, {"x": torch.ones(2)}))
    store.wait()
    newest = store.newest()
    assert newest is not None and newest.step == 150
    assert store.steps() == [150]


def test_the_newest_stay(tmp_path: Path) -> None:
    store = Store(str(tmp_path), keep=2)
    for step in (1, 2, 3):
        store.save(State(step, {}))
    store.wait()
    assert store.steps() == [2, 3]

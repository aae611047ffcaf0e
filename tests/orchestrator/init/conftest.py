"""Small folders of real images for init."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits


@pytest.fixture(autouse=True)
def speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of known speed; the command itself is tried with its own below."""
    monkeypatch.setattr("orchestrator.init.choose.images_per_s", lambda *_: 1000.0)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes real digits as PNGs, so many a class, into class folders."""
    raw = load_digits()
    pictures = np.rint(raw.images * (255 / 16)).astype(np.uint8)
    used = dict.fromkeys(range(10), 0)

    def write(folder: str, **classes: int) -> Path:
        for number, (name, count) in enumerate(classes.items()):
            (tmp_path / folder / name).mkdir(parents=True, exist_ok=True)
            mine = pictures[raw.target == number]
            for at in range(used[number], used[number] + count):
                Image.fromarray(mine[at]).resize((16, 16)).save(tmp_path / folder / name / f"{at:03}.png")
            used[number] += count
        return tmp_path / folder

    return write

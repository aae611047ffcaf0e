"""Predictions for files: which, in what order, and what becomes of broken ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.data.ahead import ahead
from jobs.predict import image_files, predict
from tests.jobs.models.tiny import tiny

CPU = torch.device("cpu")


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (20, 30), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def test_files_folders_and_globs_come_in_the_order_of_their_paths_and_once(tmp_path: Path) -> None:
    names = ["b/2.png", "b/10.jpg", "b/a/z.png", "b-c.png", "c.bin", "a.png"]
    for name in names:
        picture(tmp_path / name) if not name.endswith("bin") else (tmp_path / name).touch()
    (tmp_path / "b" / ".hidden.png").touch()
    (tmp_path / "b" / "notes.txt").touch()
    passed_over: list[str] = []
    given = [f"{tmp_path}/c.bin", f"{tmp_path}/b", f"{tmp_path}/*.png", f"{tmp_path}/b/2.png", f"{tmp_path}/b/"]
    found = [os.path.relpath(path, tmp_path) for path in image_files(given, passed_over.append)]
    assert found == ["a.png", "b/10.jpg", "b/2.png", "b/a/z.png", "b-c.png", "c.bin"]
    assert passed_over == [f"{tmp_path}/b/notes.txt"]


def test_what_is_not_there_is_told_before_any_work(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"nothing-\*\.png is no file, no folder, and as a glob it matches nothing"):
        image_files([f"{tmp_path}/a.png", f"{tmp_path}/nothing-*.png"])


def test_probabilities_are_the_model_s_own_and_broken_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(tmp_path / "model", crop_ratio=0.8)
    paths = [picture(tmp_path / f"{n}.png", n, (20 + n, 40), ("RGB", "L", "RGBA", "P")[n % 4]) for n in range(9)]
    (tmp_path / "3.png").write_bytes(paths[3].read_bytes()[:100])
    (tmp_path / "5.png").write_bytes(b"")
    (tmp_path / "6.png").unlink()
    (tmp_path / "6.png").symlink_to(tmp_path / "gone")
    picture(tmp_path / "7.png", 7, (200, 200))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # twice as many are refused
    monkeypatch.setattr("jobs.predict.BATCH", 4)
    found = list(predict(model, iter(map(str, paths)), CPU))
    assert [one.file for one in found] == list(map(str, paths))
    errors = {Path(one.file).stem: one.error for one in found if one.probabilities is None}
    assert list(errors) == ["3", "5", "6", "7"]
    assert "truncated" in errors["3"].lower()
    assert errors["5"] == "zero bytes"
    assert errors["6"] == "No such file or directory"
    assert "DecompressionBomb" in errors["7"]
    for one in found:
        if one.probabilities is not None:
            with Image.open(one.file) as image:
                np.testing.assert_allclose(one.probabilities, model.predict([image])[0], rtol=1e-4, atol=1e-6)


def test_only_so_much_is_read_ahead_and_order_is_kept() -> None:
    """Whoever takes nothing makes nobody read on, so memory does not grow with the number of files."""
    started: set[int] = set()
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            started.add(item)
        return -item

    results: Iterator[int] = ahead(work, iter(range(10_000)), 8)
    for item in range(5):
        assert next(results) == -item
        assert max(started) < item + 8
    assert list(results) == [-item for item in range(5, 10_000)]


def test_a_model_turns_images_as_those_that_it_was_trained_on_were(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "shown.png", size=(20, 30))
    stored = Image.open(tmp_path / "shown.png").transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "turned.png", exif=exif)
    stored.save(tmp_path / "stored.png")
    files = [str(tmp_path / f"{name}.png") for name in ("shown", "turned", "stored")]
    for turns in (True, False):
        model = tiny(tmp_path / f"model{turns}", exif_orientation=turns)
        shown, turned, lying = (each.probabilities for each in predict(model, iter(files), CPU))
        assert np.array_equal(turned, shown if turns else lying) and not np.array_equal(shown, lying)
        assert np.allclose(model.predict([Image.open(files[1])]), turned)

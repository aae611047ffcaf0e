"""A run is of its data: what a checkpoint says of them, and what becomes of a run that is resumed on others."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import specfile
from jobs.__main__ import main
from jobs.checkpoint import State, Store
from jobs.data.identity import UNKNOWN, OtherDataError, check_same, identity
from jobs.place import Place
from jobs.report import Keep
from jobs.spec import JobSpec
from jobs.train import train
from tests.jobs.digits_job import job

JOB = """
name: t
data: {kind: image_folder, root: data, size: 8, val_fraction: 0.2}
model: {kind: cnn, width: 4}
optimizer: {kind: sgd, lr: 0.01}
epochs: 1
batch_size: 8
precision: fp32
"""


def images(root: Path, classes: tuple[str, ...] = ("ant", "bee", "cat"), count: int = 10) -> None:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng([label, number]).integers(0, 99, (8, 8, 3)) + 50 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number:03d}.png")


def one_fewer(root: Path) -> None:
    (root / "ant" / "000.png").unlink()


def renamed(root: Path) -> None:
    (root / "ant").rename(root / "zebra")


def swapped(root: Path) -> None:
    (root / "ant").rename(root / "x")
    (root / "bee").rename(root / "ant")
    (root / "x").rename(root / "bee")


def one_class_more(root: Path) -> None:
    shutil.copytree(root / "cat", root / "dog")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "an image is gone": (one_fewer, r"(train|val|test) has \d+ images, it had \d+"),
    "a class is renamed": (renamed, r"the classes are 3 \(bee, cat, zebra\), they were 3 \(ant, bee, cat\)"),
    "two folders are swapped": (swapped, "each split has as many images as before, but not the same"),
    "a class is added": (one_class_more, r"the classes are 4 \(ant, bee, cat, dog\), they were 3 \(ant, bee, cat\)"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_loop_resumes_on_the_same_images_only(what: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    images(tmp_path / "data")
    (tmp_path / "x.yaml").write_text(JOB)
    main(["x.yaml", "-o", "out"])
    main(["x.yaml", "-o", "out", "-s", "epochs=2"])
    before = specfile.read("x.yaml", JobSpec).data.open().digest
    change, words = CHANGES[what]
    change(tmp_path / "data")
    after = specfile.read("x.yaml", JobSpec).data.open().digest
    with pytest.raises(SystemExit, match="2"):
        main(["x.yaml", "-o", "out", "-s", "epochs=3"])
    told = capsys.readouterr().err
    assert before[:12] in told and after[:12] in told
    assert re.search(words, told), told
    assert "Put the data back as they were, or start a new run" in told
    assert Store("out/checkpoints").steps()[-1] == 2 * Store("out/checkpoints").steps()[0], "it trained on"


def test_a_checkpoint_of_before_is_resumed_with_a_note() -> None:
    spec, report = job(epochs=2), Keep()
    data = spec.data.open()
    train(spec, Place(), report, {"data": data})
    state = report.checkpoints[-1]
    assert state.tree["data"] == identity(data)
    old = State(state.step, {name: value for name, value in state.tree.items() if name != "data"})
    told: dict[str, str] = {}

    class Facts(Keep):
        def note(self, facts: Mapping[str, str]) -> None:
            told.update(facts)

    train(job(epochs=3), Place(), Facts(), {"data": data}, old)
    assert told["resumed"] == UNKNOWN


def test_a_digest_alone_is_compared_too() -> None:
    data = job().data.open()
    assert check_same({"digest": data.digest}, data) == ""
    assert check_same({}, data) == check_same(None, data) == UNKNOWN
    with pytest.raises(OtherDataError, match=r"^search s is of other images: .* 0123456789ab, .*each split has"):
        check_same({"digest": "0123456789abcdef"}, data, "search s")
    with pytest.raises(OtherDataError, match="classes are 2"):
        check_same(identity(data), replace(data, classes=("a", "b")))

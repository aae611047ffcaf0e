"""Texts that would hold up, crash or garble whoever reads them: one error each, that any terminal can print."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from jobs.spec import JobSpec
from jobs.specfile import SpecError, read
from jobs.specfile.yaml import MOST_CHARACTERS, parse
from tests.jobs.small_spec import Small, load, refusal

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
HOSTILE = {
    "an alias bomb": (BOMB, "more than 100,000 values, those of aliases counted"),
    "brackets": ("x: " + "[" * 20_000, "nested more than 100 levels deep"),
    "closed brackets": ("x: " + "[" * 150 + "]" * 150, "nested more than 100 levels deep"),
    "maps": ("".join(" " * n + "a:\n" for n in range(1000)), "nested more than 100 levels deep"),
    "a large file": ("x: 1\n" * (MOST_CHARACTERS // 5 + 1), "characters are more than a spec has"),
    "half a pair": ('name: "\\ud800"\n', r"U\+D800, half of a surrogate pair"),
    "half a pair in a key": ('"a\\ud800": 1\n', r"U\+D800, half of a surrogate pair"),
    "a long number": (f"epochs: {'9' * 5000}\n", "`9{40}...` is no int"),
    "a long number in hex": (f"epochs: 0x{'f' * 5000}\n", "`0xf{38}...` is too large a number"),
    "an escape": ('"\\e[31mred": 1\n', r"unknown key \\x1b\[31mred"),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_texts_are_refused_at_once(what: str) -> None:
    text, words = HOSTILE[what]
    began = time.process_time()
    error = refusal(text, cls=Small)
    assert time.process_time() - began < 30, "without a limit it would be hours"
    told = str(error)
    told.encode()
    assert re.search(words, told), told
    assert "\x1b" not in told


def test_overrides_are_limited_too() -> None:
    told = str(refusal("optimizer: {kind: sgd, lr: 1}\n", f"epochs={'[' * 5000}", cls=Small))
    assert "nested more than 100 levels deep" in told
    told = str(refusal("optimizer: {kind: sgd, lr: 1}\n", "trackingg.uri=postgresql://u:SECRET@h/db", cls=Small))
    assert "there is no trackingg.uri" in told and "SECRET" not in told
    told = str(refusal("name: 'https://u:SECRET@h'\noptimizer: {kind: sgd, lr: 1}\n", cls=Small))
    assert "SECRET" not in told


@pytest.mark.parametrize("path", ["\ud800.yaml", "a\0b.yaml", "pipe.yaml", "\x1b[31m.yaml"])
def test_odd_files_are_refused(path: str) -> None:
    os.mkfifo("pipe.yaml")
    with pytest.raises(SpecError) as caught:
        read(path, Small)
    str(caught.value).encode()
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


def test_parse_says_where() -> None:
    _, (flaw,) = parse('a: 1\nb: "x\\ud800"\n')
    assert (flaw.mark.line, flaw.mark.column) == (2, 4)


def test_a_message_is_never_longer_than_people_read() -> None:
    entries = ", ".join(["{kind: x}"] * 3000)
    began = time.process_time()
    error = refusal(f"optimizer: {{kind: sgd, lr: 1}}\ntricks: [{entries}]\n", cls=Small)
    assert str(error).startswith("3,000 problems, the first 20:\n")
    assert len(str(error)) < 10_000
    assert len(str(refusal("optimizer: {kind: sgd, lr: 1}\n", f"name=[{entries}]", cls=Small))) < 2000
    assert time.process_time() - began < 30


def test_an_anchor_used_again_warns_nobody(recwarn: pytest.WarningsRecorder) -> None:
    assert load("name: &a x\noptimizer: {kind: sgd, lr: &a 1}\n", cls=Small).name == "x"
    assert not recwarn.list


@pytest.mark.parametrize(
    "change",
    [
        "epochs=1000000000",
        "data.size=9223372036854775807",
        "model.width=1000000000",
        "optimizer.lr=1e300",
        "optimizer.weight_decay=1e300",
        "data.loader_workers=1000000000",
        "resources.wait_minutes=1e9",
        "early_stopping={patience_epochs: 2, min_delta: 1.5}",
    ],
)
def test_sizes_that_no_machine_has_are_refused(change: str) -> None:
    with pytest.raises(SpecError, match=re.escape(f"-s {change}")):
        read(RECIPES / "digits.yaml", JobSpec, [change])

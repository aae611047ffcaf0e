"""Mutated specs are read or refused, with a located message that any terminal can print."""

import json
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.mutations import case


def test_mutated_specs_are_read_or_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    rows = fuzz.run(300, 0, state, 1)
    flaws = [bad for row in rows for bad in row["bad"] if bad["what"] not in ("refused slow", "accepted slow")]
    assert not flaws, fuzz.table(rows)
    counts = [row["counts"] for row in rows]
    assert sum(count["refused"] + count["accepted"] for count in counts) == 300
    assert min(count["accepted"] for count in counts) > 0
    assert fuzz.run(300, 0, state, 1) == rows and len(state.read_text().splitlines()) == len(rows)


def test_a_case_is_the_same_every_time() -> None:
    assert [case(3, number) for number in range(20)] == [case(3, number) for number in range(20)]


def test_flaws_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*args: object) -> None:
        raise RuntimeError("\ud800")

    monkeypatch.setattr(fuzz.specfile, "read", read)
    row = fuzz.chunk(0, 0, 2)
    assert row["counts"] == {"crashed": 2, "unprintable": 2}
    assert "RuntimeError" in json.dumps(row) and fuzz.table([row]).isascii()

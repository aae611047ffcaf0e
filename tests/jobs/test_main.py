"""A job without Ray does what its spec says, or says that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.__main__ import main

DIGITS = str(Path(__file__).parents[2] / "jobs" / "recipes" / "digits.yaml")


def test_threads_are_those_of_the_spec_and_a_storage_is_said_to_be_unused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    given = ["epochs=1", "schedule.warmup_epochs=0", "resources.cpus_per_worker=3", f"checkpoint.storage={tmp_path}/s"]
    try:
        main([DIGITS, *(word for each in given for word in ("-s", each)), "-o", str(tmp_path / "out")])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert "checkpoint.storage is of no use here" in capsys.readouterr().err
    assert (tmp_path / "out" / "model" / "model.safetensors").exists() and not (tmp_path / "s").exists()

"""``orchestrator shards``, and what ``plan`` says of shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.shards import shards
from orchestrator.execution.capacity import Cluster
from orchestrator.execution.plan import plan
from orchestrator.prepare import prepare
from tests.contracts.test_sources import folder
from tests.orchestrator.real import DIGITS, ROOT, job


def test_a_job_s_data_or_a_folder_are_written_and_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards(str(ROOT / DIGITS), str(tmp_path / "digits"), 1, ["data.val_fraction=0.5"])
    told = capsys.readouterr().out
    assert "note     the source has no test split: it is 0.2 of train, stratified\n" in told
    assert "val      719 images in 2 shards, 1.4 MB" in told and f"  kind: shards\n  root: {tmp_path}/digits\n" in told
    spec = job(f"data={{kind: shards, root: {tmp_path}/digits, lanes: 2}}")
    lines, fits = plan(prepare(spec, Cluster.at_hand()))
    assert fits and lines["data"].startswith("718 train, 719 val, 360 test images; 10 classes; 8x8x1")
    assert any(f"beginning with {tmp_path}/digits/train-00000.tar" in text for text in lines.values())
    shards(str(folder(tmp_path / "set")), str(tmp_path / "out"))
    assert "train    43 images in 1 shard" in capsys.readouterr().out


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--set changes the data of a job; give its file"):
        shards(str(tmp_path), str(tmp_path / "out"), 256, ["data.val_fraction=0.5"])
    with pytest.raises(ValueError, match=r"init looks at images on this machine, not at URLs .*; give it a copy"):
        shards("s3://bucket/set", str(tmp_path / "out"))
    (tmp_path / "set" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="no images"):
        shards(str(tmp_path / "set"), str(tmp_path / "out"))

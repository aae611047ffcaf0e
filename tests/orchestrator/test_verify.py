"""A run is repeated from what MLflow holds of it: real Ray, real SQLite."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import KINDS
from orchestrator.cli.jobs import build
from orchestrator.execution.verify import Difference, Held, Repetition, compare, words
from orchestrator.execution.worker import WEIGHTS
from orchestrator.home import run_folder
from orchestrator.tracking.mlflow import Shipper

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repetition(finished_run: str) -> Repetition:
    return Repetition.of(finished_run)


def test_a_run_comes_out_again_bit_for_bit(finished_run: str) -> None:
    _, run_id = Shipper(run_folder(finished_run)).target
    shown = CliRunner().invoke(build(KINDS), ["train", "--verify", run_id])  # by its id: all is taken from MLflow
    assert shown.exit_code == 0, shown.output
    assert "EQUAL, bit for bit" in shown.output
    assert finished_run in shown.output


def test_another_seed_is_found_out_at_the_first_epoch(repetition: Repetition) -> None:
    other = repetition.spec.override({"seed.data": 5})
    verdict = dataclasses.replace(repetition, spec=other).run()
    assert not verdict.equal
    assert verdict.first is not None
    assert verdict.first.epoch == 1
    assert verdict.before.weights != verdict.again.weights
    assert verdict.again.tags["verifies"] == repetition.run_id
    assert words(verdict)[0].startswith("DIFFERENT at epoch 1: ")


def test_what_is_compared(repetition: Repetition) -> None:
    before = repetition.before
    metrics = {metric for _, metric in before.values}
    assert {"train/loss", "val/loss", "val/top1", "lr", "test/top1"} <= metrics
    assert not {"images_per_s", "epoch_s", "peak_memory_mb"} & metrics  # clocks differ
    assert not any(metric.startswith("system/") for metric in metrics)
    assert before.weights is not None


def test_the_first_difference_and_the_machine_are_named(repetition: Repetition) -> None:
    before = repetition.before
    changed = {key: value + (key[0] >= 3) for key, value in before.values.items()}
    changed[2, "val/loss"] = before.values[2, "val/loss"] * (1 + 2**-52)
    again = dataclasses.replace(before, values=changed, tags={**before.tags, "version.torch": "1.0", "revision": "abc"})
    verdict = compare(before, again)
    assert verdict.first == Difference(2, "val/loss", before.values[2, "val/loss"], changed[2, "val/loss"])
    assert verdict.machine["version.torch"] == (before.tags["version.torch"], "1.0")
    assert verdict.machine["revision"][1] == "abc"
    assert "host" not in verdict.machine


def _with_weights(repetition: Repetition, weights: str | None) -> Held:
    tags = {tag: value for tag, value in repetition.before.tags.items() if tag != WEIGHTS}
    return dataclasses.replace(repetition.before, tags=tags | ({WEIGHTS: weights} if weights else {}))


def test_equal_values_with_other_weights_are_not_equal(repetition: Repetition) -> None:
    verdict = compare(repetition.before, _with_weights(repetition, "0" * 64))
    assert not verdict.equal
    assert "DIFFERENT weights" in words(verdict)[0]


def test_weights_that_are_gone_are_said_to_be(repetition: Repetition) -> None:
    verdict = compare(_with_weights(repetition, None), repetition.before)
    assert verdict.equal
    assert "could not be compared" in " ".join(words(verdict))


def test_data_that_changed_are_refused(finished_run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.data import Digits

    real = Digits.open
    monkeypatch.setattr(Digits, "open", lambda self: dataclasses.replace(real(self), digest="another"))
    with pytest.raises(ValueError, match=r"the data are not what .* was trained on"):
        Repetition.of(finished_run)


def test_a_run_that_nobody_knows(home: Path) -> None:
    shown = CliRunner().invoke(build(KINDS), ["train", "--verify", "nobody"])
    assert shown.exit_code == 2
    assert "nobody" in shown.output


def test_it_stands_alone() -> None:
    shown = CliRunner().invoke(build(KINDS), ["train", "job.yaml", "--verify", "run"])
    assert shown.exit_code == 2
    assert "stands alone" in shown.output

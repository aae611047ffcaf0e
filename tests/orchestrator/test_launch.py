"""Jobs on real Ray with a real SQLite MLflow store and real images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import models
from orchestrator.execution import launch
from orchestrator.home import run_folder
from tests.orchestrator.real import ROOT, job, mlflow_run, points

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.usefixtures("cluster")


def test_the_demo_recipe_is_trained_tracked_and_kept() -> None:
    result = launch.train(job())
    assert (result.status, result.ended_by, result.behind) == ("FINISHED", "epochs", 0)
    assert result.metrics["test/top1"] >= 0.97
    client, run = mlflow_run(result.run)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.lr"] == "0.1" and run.data.params["batch.label_smoothing.epsilon"] == "0.1"
    for metric in ("train/loss", "val/loss", "val/top1", "val/top5", "val/recall/7", "lr", "images_per_s", "epoch_s"):
        assert [step for step, _ in points(client, run, metric)] == list(range(1, 16)), metric
    assert points(client, run, "test/top1") == [(15, result.metrics["test/top1"])]
    assert run.data.tags["precision"] in ("bf16", "fp32") and run.data.tags["dataset.digest"]
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"spec.yaml", "figures", "model"} <= artifacts
    loaded = models.load(str(run_folder(result.run) / "model"))
    data = job().data.open()
    right = loaded.predict(data.test.images).argmax(1) == data.test.labels
    assert right.mean() == pytest.approx(result.metrics["test/top1"], abs=0.01)


def test_the_token_that_ray_makes_is_nobody_elses(tmp_path: Path) -> None:
    start = "from orchestrator.execution.session import start_ray; start_ray()"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    subprocess.run([sys.executable, "-c", start], check=True, cwd=ROOT, env=plain | {"HOME": str(tmp_path)})
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_what_cannot_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ValueError, match=r"4 workers x 1 CPUs = 4 CPUs, but the cluster has 2"):
        launch.train(job("resources.workers=4"))


def test_a_non_finite_loss_fails_the_run_with_its_cause() -> None:
    result = launch.train(job("optimizer.lr=1e30", "name=nan"))
    assert result.status == "FAILED" and "loss is" in result.ended_by
    _, run = mlflow_run(result.run)
    assert run.info.status == "FAILED" and "NonFiniteLossError" in run.data.tags["cause"]

"""The command line as a user meets it: output and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.execution.capacity import Cluster
from orchestrator.execution.plan import plan
from orchestrator.prepare import prepare
from tests.orchestrator.real import DIGITS, ROOT, job, orchestrator

pytestmark = pytest.mark.slow


def test_a_wrong_spec_exits_2_with_every_mistake_at_once(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((ROOT / DIGITS).read_text().replace("epochs: 15", "epocs: 15").replace("lr: 0.1", "lr: -1"))
    done = orchestrator("train", str(wrong))
    assert done.returncode == 2
    assert f"{wrong}:" in done.stderr
    assert "did you mean epochs?" in done.stderr
    assert "optimizer.lr" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_line_is_read_before_anything_heavy_is_imported() -> None:
    heavy = ("torch", "ray", "mlflow", "pandas", "scipy", "sklearn", "torchvision")
    code = f"import sys, orchestrator.__main__; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plan_says_what_will_happen_and_exits_1_when_it_cannot_fit() -> None:
    good = orchestrator("plan", DIGITS)
    assert good.returncode == 0, good.stderr
    assert "updates      300 (20 an epoch) of 64 images: 2 workers x 1 accumulation x 32" in good.stdout
    assert "verdict      fits" in good.stdout
    large = orchestrator("plan", DIGITS, "-s", "resources.cpus_per_worker=1000")
    assert large.returncode == 1
    assert "does not fit" in large.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("distillation={teacher: {kind: job, job: nope.yaml}}", r"nope\.yaml"),
        ("distillation={teacher: {kind: run, run: nope}}", "there is no run 'nope'"),
        ("distillation={teacher: {kind: model, path: nope}}", "there is no model in"),
        ("tracking.uri=localhost:5000", "tracking.uri 'localhost:5000' is not supported"),
    ],
)
def test_plan_refuses_what_train_refuses(change: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prepare(job(change), Cluster.at_hand())


def test_plan_counts_gpus() -> None:
    lines, fits = plan(prepare(job("resources.use_gpu=true", "resources.workers=64"), Cluster.at_hand()))
    assert not fits and lines["verdict"].startswith("does not fit: 64 workers x 1 CPUs = 64 CPUs, but there are")


def test_schema_is_json_that_editors_take() -> None:
    done = orchestrator("schema", "job")
    assert json.loads(done.stdout)["additionalProperties"] is False
    assert orchestrator("schema", "jab").returncode == 2


def test_an_unknown_run_exits_2_with_the_nearest_names(home: Path) -> None:
    (home / "runs" / "digits-1").mkdir(parents=True)
    done = orchestrator("runs", "rm", "digits-2")
    assert done.returncode == 2
    assert "digits-2" in done.stderr


def test_train_without_a_job_exits_2_and_says_what_to_give() -> None:
    done = orchestrator("train")
    assert done.returncode == 2
    assert "--resume RUN" in done.stderr


def test_resuming_an_unknown_run_exits_2(home: Path) -> None:
    done = orchestrator("train", "--resume", "digits-2")
    assert done.returncode == 2
    assert "there is no run 'digits-2'" in done.stderr


@pytest.mark.parametrize("command", ["list", "gc"])
def test_runs_of_an_empty_home(home: Path, command: str) -> None:
    done = orchestrator("runs", command)
    assert done.returncode == 0, done.stderr


def test_the_loop_runs_under_torchrun_and_goes_on_from_its_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "jobs.train", DIGITS]
    for epochs in ("1", "2"):
        words = [*command, "-s", f"epochs={epochs}", "-s", "schedule.warmup_epochs=0", "-o", str(tmp_path)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "epoch 2: train/loss" in done.stdout
    assert "epoch 1: train/loss" not in done.stdout
    assert (tmp_path / "model" / "model.safetensors").exists()

"""Starting from a run of ours, through the real launcher: by its name, by its id in MLflow, and in a search."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs import specfile
from jobs.models.weights import StoredWeights
from jobs.spec import JobSpec
from orchestrator.execution import launch
from orchestrator.execution.capacity import Cluster
from orchestrator.execution.plan import plan
from orchestrator.execution.pretrained import Resolver, resolve
from orchestrator.home import run_folder
from orchestrator.models.evaluation import evaluate
from orchestrator.prepare import prepare
from tests.jobs.pretrained import kept
from tests.orchestrator.real import job, mlflow_run, weights
from tuning.run.launch import search
from tuning.spec.search import SearchSpec

pytestmark = pytest.mark.slow

SMALL = ("epochs=2", "model.width=8", "resources.workers=1")


def tuning(run: str, *more: str) -> JobSpec:
    """A job that starts from a run, its body frozen for the first of two epochs."""
    start = f"model.pretrained={{kind: run, run: {run}}}"
    return job(*SMALL, "name=tuned", start, "model.freeze_epochs=1", "optimizer.layer_decay=0.5", *more)


@pytest.mark.usefixtures("cluster")
def test_a_network_of_our_own_runs_is_a_start_for_jobs_and_searches() -> None:
    first = launch.train(job(*SMALL, "name=start", "data.mean=[0.31]", "data.std=[0.41]"))
    assert first.status == "FINISHED"
    _, start = mlflow_run(first.run)

    result = launch.train(tuning(first.run, "resources.workers=2"))
    assert result.status == "FINISHED"
    _, run = mlflow_run(result.run)
    assert run.data.params["model.pretrained.run"] == first.run
    assert run.data.params["data.mean"] == "[0.31]" and run.data.params["data.size"] == "8"
    assert run.data.tags["pretrained"].startswith("sha256 ")
    recorded = specfile.read(run_folder(result.run) / "spec.yaml", JobSpec)
    assert (recorded.data.mean, recorded.data.std) == ((0.31,), (0.41,))
    assert recorded.model.pretrained == tuning(first.run).model.pretrained
    before, after = weights(first.run), weights(result.run)
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)

    by_name, by_id = (resolve(tuning(name)) for name in (first.run, start.info.run_id))
    assert by_id.data == by_name.data == recorded.data
    assert isinstance(by_name.model.pretrained, StoredWeights) and isinstance(by_id.model.pretrained, StoredWeights)
    assert load_file(f"{by_id.model.pretrained.path}/model.safetensors").keys() == before.keys()

    space = {"optimizer.layer_decay": {"kind": "choice", "values": [0.5, 0.9]}}
    changes = {
        "model.width": 8,
        "resources.workers": 1,
        "model.pretrained": {"kind": "run", "run": first.run},
        "model.freeze_epochs": 1,
    }
    found = search(
        SearchSpec.model_validate(
            {
                **{"name": "tunings", "job": "jobs/recipes/digits.yaml", "set": changes, "space": space},
                **{"searcher": {"kind": "grid"}, "budget": {"epochs_per_trial": 2}, "finish": False},
            }
        )
    )
    assert [trial.status for trial in found.trials] == ["FINISHED", "FINISHED"]
    one, other = (weights(trial.run) for trial in found.trials)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    trial = found.trials[0]
    kept_spec = specfile.read(run_folder(trial.run) / "spec.yaml", JobSpec)
    assert kept_spec.data == recorded.data, "without what the weights say, its own splits could not be opened again"
    assert evaluate(trial.run, "test").metrics["top1"] == trial.values["test/top1"]


def test_a_run_that_is_not_there_is_named_with_its_cure() -> None:
    with pytest.raises(ValueError, match=r"model\.pretrained: there is no run 'nobody'"):
        launch.train(tuning("nobody"))


def planned(*changes: str) -> tuple[dict[str, str], bool]:
    return plan(prepare(job(*changes), Cluster.at_hand()))


def test_plan_says_what_is_taken_over_and_at_which_rates(tmp_path: Path) -> None:
    path = kept(tmp_path, job("model.width=8"))
    start = f"model.pretrained={{kind: model, path: {path}}}"
    lines, fits = planned(*SMALL, start, "model.freeze_epochs=1", "optimizer.layer_decay=0.5")
    assert fits
    assert lines["pretrained"] == (
        "18 tensors; fresh: 11.bias, 11.weight; they alone learn for 1 of 2 epochs; lr 0.0125 at depth 0 to 0.1 at 3"
    )
    plain, _ = planned(*SMALL)
    for name in ("model", "memory", "disk", "updates"):
        assert lines[name] == plain[name], name
    with pytest.raises(ValueError, match=r"do not fit the body"):
        planned(*SMALL, start, "model.width=4")


def test_weights_that_are_gone_hinder_no_run_that_has_a_checkpoint(tmp_path: Path) -> None:
    path = kept(tmp_path / "weights", job("model.width=8"))
    spec = resolve(job(*SMALL, f"model.pretrained={{kind: model, path: {path}}}"))
    shutil.rmtree(path)
    for run in (None, "begun"):
        with pytest.raises(ValueError, match="there is no model in"):
            resolve(spec, run)
    checkpoint = run_folder("begun") / "checkpoints" / "step_000000003"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{}")
    assert resolve(spec, "begun") == spec


def test_a_search_reads_each_sort_of_weights_once(tmp_path: Path) -> None:
    path = kept(tmp_path, job("model.width=8"))
    resolver = Resolver()
    first = resolver(job(*SMALL, f"model.pretrained={{kind: model, path: {path}}}"))
    assert first.model.pretrained == StoredWeights(path=path) and first.data.mean == (0.25,)
    shutil.rmtree(path)
    second = resolver(job(*SMALL, f"model.pretrained={{kind: model, path: {path}}}", "optimizer.lr=0.3"))
    assert (second.model, second.data, second.optimizer.lr) == (first.model, first.data, 0.3)
    assert resolver(job()) == job()

"""Searches on real Ray Tune with a real SQLite MLflow store and real digits."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
import typer
from mlflow.tracking import MlflowClient

from orchestrator.cluster.client import KIND, RUN, Job
from orchestrator.cluster.jobs import rows
from orchestrator.home import default_uri, run_folder
from orchestrator.runs import store
from orchestrator.tracking.recorder import Recorder
from tests.orchestrator.real import actors, mlflow_run, points
from tuning.run.driver import Driver
from tuning.run.history import History
from tuning.run.launch import search
from tuning.run.line import encode
from tuning.run.named import find
from tuning.run.tune import Judge
from tuning.spec.search import SearchSpec
from tuning.terminal import drive

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

BASE: dict[str, Any] = {
    "job": "jobs/recipes/digits.yaml",
    "set": {"resources.workers": 1, "model.width": 8},
    "space": {
        "optimizer.lr": {"kind": "loguniform", "low": 0.001, "high": 0.2},
        "batch.label_smoothing.epsilon": {"kind": "uniform", "low": 0.0, "high": 0.2},
    },
    "searcher": {"kind": "random"},
    "budget": {"trials": 4, "epochs_per_trial": 4},
    "finish": False,
}


def spec(name: str, **changes: Any) -> SearchSpec:
    return SearchSpec.model_validate({**BASE, "name": name, **changes})


def children(parent: str) -> tuple[MlflowClient, Any, list[Any]]:
    client, run = mlflow_run(parent)
    found = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    return client, run, sorted(found, key=lambda child: int(child.data.tags.get("ordinal", -1)))


@pytest.fixture(scope="module")
def asha() -> Any:
    asha = {"kind": "asha", "grace_epochs": 1, "reduction_factor": 2}
    return search(spec("asha", scheduler=asha, finish=True, set={**BASE["set"], "epochs": 5}))


def test_every_trial_is_a_child_run_with_its_parameters_and_its_end(asha: Any) -> None:
    assert (asha.status, asha.why, asha.behind) == ("FINISHED", "trials", 0)
    client, parent, store = children(asha.name)
    assert parent.info.status == "FINISHED"
    store = [run for run in store if "ordinal" in run.data.tags]
    assert [int(run.data.tags["ordinal"]) for run in store] == [0, 1, 2, 3]
    for trial, run in zip(asha.trials, store, strict=True):
        assert run.info.status == "FINISHED"
        assert float(run.data.params["optimizer.lr"]) == trial.params["optimizer.lr"]
        steps = [step for step, _ in points(client, run, "val/top1")]
        assert steps == list(range(1, len(steps) + 1))
        assert run.data.tags.get("stopped_by") == trial.stopped_by
        top1 = [value for _, value in points(client, run, "val/top1")]
        assert run.data.metrics["best/val/top1"] == max(top1)
        assert run.data.metrics["best/epoch"] == 1 + top1.index(max(top1))
        if trial.stopped_by:
            assert len(steps) < 4 and "rung" in run.data.tags
            assert not run.data.metrics.get("test/top1"), "a trial that was stopped has no test score"
        else:
            assert len(steps) == 4 and "test/top1" in run.data.metrics
    assert any(trial.stopped_by == "asha" for trial in asha.trials)


def test_it_ends_with_winner_and_base_on_the_test_split(asha: Any) -> None:
    client, parent, store = children(asha.name)
    last = {run.data.tags["role"]: run for run in store if "role" in run.data.tags}
    assert len(store) == 6 and set(last) == {"winner", "base"}
    best, job = asha.ranked[0], outcome_spec(asha.name).whole()
    for role, rate in (("winner", best.params["optimizer.lr"]), ("base", job.optimizer.lr)):
        run = last[role]
        assert run.info.status == "FINISHED" and float(run.data.params["optimizer.lr"]) == rate
        assert [step for step, _ in points(client, run, "val/top1")] == [1, 2, 3, 4, 5]
        assert run.data.metrics["test/top1"] == asha.last[role].values["test/top1"]
        assert parent.data.metrics[f"{role}/test/top1"] == asha.last[role].values["test/top1"]
        assert parent.data.tags[role] == run.info.run_name == asha.last[role].run
        assert (run_folder(asha.last[role].run) / "model" / "model.json").exists()
    assert all(trial.ordinal >= 0 for trial in (*asha.ranked, *asha.trials)), "they are no trials"
    page = (run_folder(asha.name) / "report.html").read_text(encoding="utf-8")
    assert f"{100 * asha.last['base'].values['test/top1']:.2f} %" in page
    again = search(None, asha.name)
    assert again.last == asha.last and len(children(asha.name)[2]) == 6, "something was trained twice"


def test_the_parent_has_series_of_its_own(asha: Any) -> None:
    client, parent, _ = children(asha.name)
    best = [value for _, value in points(client, parent, "best/val/top1")]
    assert best == sorted(best) and best[-1] == pytest.approx(asha.ranked[0].values["val/top1"])
    assert points(client, parent, "trials/ended")[-1][1] == 4


def test_the_jobs_of_a_cluster_are_shown_with_their_trials(asha: Any) -> None:
    about = {RUN: asha.name, KIND: "search"}
    job = Job("s", "SUCCEEDED", "search launch", 0.0, 9.0, 0, "", about)
    (row,) = rows(cast(Any, None), [job])
    assert (row.status, row.progress, row.told_by) == ("FINISHED", "4/4 trials", "MLflow")
    assert row.best == f"{asha.ranked[0].values['val/top1']:.2%}"


def test_trials_leave_no_checkpoints_behind(asha: Any) -> None:
    assert not list(run_folder(asha.name).parent.glob(f"{asha.name}-*/checkpoints/step_*"))


def test_only_so_many_models_are_kept_and_the_best_always() -> None:
    outcome = search(spec("slim", models_mb=0, budget={"trials": 3, "epochs_per_trial": 2}))
    kept = [trial.ordinal for trial in outcome.trials if (run_folder(trial.run) / "model").exists()]
    assert kept == [outcome.ranked[0].ordinal]


def test_equal_seeds_give_equal_searches() -> None:
    first, second = (search(spec("equal", budget={"trials": 2, "epochs_per_trial": 2})) for _ in range(2))
    assert first.name != second.name
    assert [trial.params for trial in first.trials] == [trial.params for trial in second.trials]
    scores = [[trial.values["val/loss"] for trial in outcome.trials] for outcome in (first, second)]
    assert scores[0] == scores[1], "the same configuration trained differently"


def test_a_trial_equals_the_job_by_itself() -> None:
    from orchestrator.execution.verify import Repetition

    outcome = search(spec("alone", budget={"trials": 1, "epochs_per_trial": 2}))
    trial = outcome.trials[0]
    repetition = Repetition.of(trial.run)
    assert repetition.spec.optimizer.lr == trial.params["optimizer.lr"]
    verdict = repetition.run()
    assert verdict.equal and verdict.before.weights
    assert verdict.again.values[2, "test/loss"] == trial.values["test/loss"]


def outcome_spec(name: str) -> SearchSpec:
    found = History.look(find(name)).spec
    assert found is not None
    return found


def test_a_failing_trial_fails_alone_and_can_be_retried(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(Path(str(BASE["job"])).read_text(encoding="utf-8"), encoding="utf-8")
    space = {"optimizer.lr": {"kind": "choice", "values": [0.05, 1e30]}}
    changes = {"job": str(job), "space": space, "searcher": {"kind": "grid"}, "budget": {"epochs_per_trial": 2}}
    outcome = search(spec("failing", **changes))
    assert [trial.status for trial in outcome.trials] == ["FINISHED", "FAILED"]
    assert outcome.trials[1].kind == "nan" and "loss is" in str(outcome.trials[1].cause)
    _, parent, store = children(outcome.name)
    assert [run.info.status for run in store] == ["FINISHED", "FAILED"]
    assert store[1].data.tags["failure"] == "nan" and parent.info.status == "FINISHED"
    job.unlink()  # what a search began with, it keeps
    again = search(None, outcome.name, retry=True)
    assert [trial.status for trial in again.trials] == ["FINISHED", "FAILED"]
    assert again.report is not None and again.report.exists()
    assert len(children(outcome.name)[2]) == 2, "a retry makes a run of its own"
    assert len(History.look(find(outcome.name)).trials) == 2


def test_what_does_not_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ValueError, match="4 workers x 1 CPUs = 4 CPUs, but there are 2 CPUs"):
        search(spec("big", set={"resources.workers": 4}))


def test_more_workers_run_nested_with_the_same_numbers() -> None:
    changes = {"resources.workers": 2, "model.width": 8, "model.norm": False, "precision": "fp64"}
    outcome = search(spec("nested", set=changes, budget={"trials": 2, "epochs_per_trial": 2}))
    assert [trial.status for trial in outcome.trials] == ["FINISHED", "FINISHED"]
    parts = {**changes, "resources.workers": 1, "accumulation": 2}
    direct = search(spec("direct", set=parts, budget={"trials": 2, "epochs_per_trial": 2}))
    for one, other in zip(outcome.trials, direct.trials, strict=True):
        assert one.params == other.params
        assert one.values["val/loss"] == pytest.approx(other.values["val/loss"], rel=1e-6)


def test_a_trial_may_die_more_often_than_max_failures_where_epochs_lie_between() -> None:
    """As a job on Ray Train may; of one worker, whose process is Tune's."""
    one = spec("mortal", set={**BASE["set"], "resources.max_failures": 1}, budget={"trials": 1, "epochs_per_trial": 40})
    killed: list[int] = []

    def kill(driver: Driver) -> None:
        seen = max(driver.history.trials[0].results, default=0) if driver.history.trials else 0
        if len(killed) < 3 and seen > max(killed, default=0):
            for process in actors("ray::ResourceTrainable")[-1:]:
                killed.append(seen)
                process.kill()

    (trial,) = search(one, show=kill).trials
    assert len(killed) == 3 and trial.status == "FINISHED" and max(trial.results) == 40


def test_epochs_that_are_reported_again_are_none_between() -> None:
    """Else a trial that dies in the same epoch every time would do so without end."""
    known = SimpleNamespace(trial=lambda ordinal: SimpleNamespace(results={1: {}, 2: {}}))
    driver: Any = SimpleNamespace(history=known, result=lambda *given: False)
    trial: Any = SimpleNamespace(config={"ordinal": 0}, run_metadata=SimpleNamespace(num_failures=2))
    controller: Any = None
    for epoch, failures in ((1, 2), (2, 2), (3, 0)):
        Judge(driver).on_trial_result(controller, trial, encode(epoch, {}))
        assert trial.run_metadata.num_failures == failures


def test_parameters_are_an_objective() -> None:
    outcome = search(
        spec(
            "front",
            space={"model.width": {"kind": "choice", "values": [4, 8]}},
            objectives=[{"metric": "val/top1", "mode": "max"}, {"metric": "parameters", "mode": "min"}],
            searcher={"kind": "grid"},
            budget={"epochs_per_trial": 2},
            set={"resources.workers": 1},
        )
    )
    narrow, wide = (trial.values["parameters"] for trial in outcome.trials)
    assert 0 < narrow < wide


def test_a_trial_that_makes_no_job_fails_with_its_run_ended_and_counts_as_a_failure() -> None:
    missing = {"kind": "run", "run": "nobody"}
    teachers = [{"teacher": missing}, {"teacher": {**missing, "check_classes": False}}]
    space = {"distillation": {"kind": "choice", "values": [None, *teachers]}}
    given: dict[str, Any] = {"space": space, "searcher": {"kind": "grid"}, "budget": {"epochs_per_trial": 2}}
    with pytest.raises(typer.Exit) as ended:
        drive(spec("orphans", **given, max_concurrent=1, stop={"failures": 2}), None, False, False)
    history = History.look(find("orphans"))
    assert ended.value.exit_code == 1 and not history.over, "a job that is done would not be resubmitted"
    assert "2 trials failed alike" in str(history.closed)
    statuses = ["FINISHED", "FAILED", "FAILED"]
    assert [trial.status for trial in history.trials.values()] == statuses
    assert [trial.kind for trial in history.trials.values()] == [None, "spec", "spec"]
    _, parent, store = children("orphans")
    assert [run.info.status for run in store] == statuses and parent.info.status == "FAILED"


def test_what_a_dead_driver_left_half_done_is_finished() -> None:
    """It wrote down that a trial had ended, and died before the trial's run was told."""
    outcome = search(spec("half", set={**BASE["set"], "compile": "auto"}, budget={"trials": 1, "epochs_per_trial": 2}))
    run = run_folder(outcome.trials[0].run)
    recorder = Recorder(run, ship=False)
    recorder.begin(run.name, "default")  # as if the run had never been ended
    recorder.close(0.0)
    assert store.find(run.name) and store.list_runs()[0].status == "KILLED"
    search(None, outcome.name)
    assert children(outcome.name)[2][0].info.status == "FINISHED"
    history = History(find(outcome.name))
    history.close()
    decided = [event for event in history.events if event["event"] == "compile"]
    assert [event["compile"] for event in decided] == [False], "decided once, and kept"


def test_a_search_that_runs_already_is_not_gone_on_with() -> None:
    outcome = search(spec("busy", budget={"trials": 1, "epochs_per_trial": 2}))
    history = History(find(outcome.name))
    try:
        with pytest.raises(ValueError, match="search busy is running already"):
            search(None, outcome.name)
    finally:
        history.close()


def test_an_earlier_search_is_gone_on_from() -> None:
    first = search(spec("first", budget={"trials": 2, "epochs_per_trial": 2}))
    second = search(
        spec(
            "second",
            searcher={"kind": "tpe"},
            start_from={"search": first.name},
            budget={"trials": 1, "epochs_per_trial": 2},
        )
    )
    assert second.trials[0].params == first.ranked[0].params
    shutil.rmtree(run_folder(first.name))
    assert search(None, second.name).why == "trials", "what a search began with, it keeps"
    folders = set(run_folder("x").parent.iterdir())
    with pytest.raises(ValueError, match=f"there is no search '{first.name}'"):
        search(spec("third", start_from={"search": first.name}))
    assert set(run_folder("x").parent.iterdir()) == folders, "nothing was started"


def test_the_store_is_the_default_one() -> None:
    assert default_uri().startswith("sqlite:///") and Path(default_uri().removeprefix("sqlite:///")).exists()


def test_trials_of_one_worker_wait_for_room_as_long_as_the_job_says() -> None:
    taken = ray.util.placement_group([{"CPU": 2}])
    assert taken.wait(60)
    told: list[str] = []
    impatient = spec("impatient", set={**BASE["set"], "resources.wait_minutes": 0})
    try:
        with pytest.raises(ConnectionError, match="no room for 1 workers of 1 CPU each in 0 minutes; free some"):
            search(impatient, tell=lambda text, lasting: told.append(text))
    finally:
        ray.util.remove_placement_group(taken)
    assert "waiting for room for 1 workers of 1 CPU each, 0 minutes at most" in told
    assert told[-1] == "resume   orchestrator search resume impatient"
    assert search(None, "impatient").status == "FINISHED"

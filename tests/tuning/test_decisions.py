"""What the driver of a search decides of what trials report; its journal is real, and nobody records runs."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.spec import JobSpec
from orchestrator.execution.answer import Answer
from orchestrator.home import run_folder
from orchestrator.runs.standing import Standing
from orchestrator.tracking.client import RecorderClient
from tests.jobs.digits_job import job
from tuning.report.board import board
from tuning.run import tune
from tuning.run.driver import LATER, Driver
from tuning.run.finals import Finals
from tuning.run.history import History
from tuning.run.leftovers import kept_first
from tuning.run.named import new_name, new_run
from tuning.run.results import front, ranked
from tuning.searchers.study import StudySearcher
from tuning.spec.arms import Arms
from tuning.spec.search import SearchBudget, SearchSpec
from tuning.studies.final import lines
from tuning.terminal import standing


class Nobody:
    """An actor that records nothing, but makes the folder of a run."""

    def __getattr__(self, name: str) -> Nobody:
        return self

    def remote(self, *given: Any) -> None:
        if given and isinstance(given[0], str):
            run_folder(given[0]).mkdir(parents=True, exist_ok=True)


def driver(folder: Path, trials: int, select: str = "last", **changes: Any) -> Driver:
    space = {"optimizer.lr": {"kind": "uniform", "low": 0.01, "high": 1.0}}
    given = {
        "name": "s",
        "job": "job.yaml",
        "space": space,
        "searcher": {"kind": "random"},
        "budget": {"trials": trials},
    }
    spec = SearchSpec.model_validate({**given, **changes})
    base = job(select=select)
    history = History(folder)
    history.add("search", spec=spec.model_dump(mode="json"), base=base.model_dump(mode="json"))
    history.add("open")
    made = Driver(spec, base, history, RecorderClient(Nobody()), lambda job: job, {})
    for ordinal in range(trials):
        params = spec.arms.params(ordinal) if spec.arms else {"optimizer.lr": 0.1 * (ordinal + 1)}
        history.add("trial", ordinal=ordinal, run=f"s-{ordinal:04d}", params=params)
        made.live.add(ordinal)
    return made


def finish(made: Driver, ordinal: int, *values: float, **more: float) -> None:
    for epoch, value in enumerate(values, 1):
        made.result(ordinal, epoch, {"val/top1": value, "val/loss": 1 - value, "seconds": 10.0 * epoch, **more})
    made.answered(ordinal, Answer("epochs", metrics={"test/top1": values[-1]}))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    monkeypatch.setattr("orchestrator.tracking.client._get", lambda reference: None)
    (tmp_path / "runs" / "s").mkdir(parents=True)
    return tmp_path / "runs" / "s"


def test_what_a_trial_said_before_it_failed_is_forgotten_with_its_failure(folder: Path) -> None:
    made = driver(folder, 2)
    made.result(0, 1, {"val/top1": 0.1, "val/loss": 2.0})
    made.failed(0, "out of memory", "memory")
    made.history.add("retry", ordinal=0)
    made.live.add(0)
    finish(made, 0, 0.1, 0.97)
    finish(made, 1, 0.3)
    first = made.history.trials[0]
    assert first.values["val/top1"] == 0.97 and first.values["val/loss"] == pytest.approx(0.03)
    assert [trial.ordinal for trial in ranked(made.trials, made.goal)] == [0, 1]
    made.history.close()


def test_a_search_that_gave_up_is_not_over(folder: Path) -> None:
    made = driver(folder, 5, stop={"failures": 2}, budget={"trials": 5})
    finish(made, 0, 0.5)
    made.failed(1, "out of memory", "memory")
    assert made.closing is None
    made.failed(2, "out of memory", "memory")
    made.history.add("close", why=made.closing, gave_up=made.gave_up)
    assert not made.history.over and made.history.ending == "gave up: 2 trials failed alike (memory: out of memory)"
    resumed = reopened(made)
    assert resumed.history.closed is None and not resumed.gave_up
    assert [ask(resumed)["ordinal"] for _ in range(2)] == [3, 4]
    resumed.failed(3, "out of memory", "memory")
    assert resumed.closing is None, "what failed before it was resumed counts no more"
    resumed.failed(4, "out of memory", "memory")
    assert resumed.gave_up
    resumed.history.close()


def test_trials_of_other_lengths_are_judged_until_their_own_end(folder: Path) -> None:
    space = {"epochs": {"kind": "choice", "values": [2, 8]}}
    asha = {"kind": "asha", "grace_epochs": 2, "reduction_factor": 2}
    made = driver(folder, 3, space=space, scheduler=asha)
    assert made.base.epochs == 3
    for ordinal, epochs in enumerate((8, 8, 2)):
        made.history.trials[ordinal].params = {"epochs": epochs}
    assert not any(made.result(0, epoch, {"val/top1": 0.9}) for epoch in range(1, 9))
    assert [made.result(1, epoch, {"val/top1": 0.9 if epoch < 4 else 0.1}) for epoch in (1, 2, 3, 4)][2:] == [
        False,
        True,
    ]
    assert not made.result(2, 2, {"val/top1": 0.1}), "it is at its end"
    made.history.close()


def test_an_arm_that_fails_on_every_seed_ends_no_comparison(folder: Path) -> None:
    arms = Arms(jobs={"base": {}, "hot": {"optimizer.lr": 1e30}}, seeds=tuple(range(1, 8)))
    made = driver(
        folder, arms.trials, space=None, arms=arms.model_dump(mode="json"), budget={}, searcher={"kind": "tpe"}
    )
    for ordinal in range(1, arms.trials, 2):
        made.failed(ordinal, "loss is nan", "nan")
    assert made.closing is None
    made.history.close()


def test_trials_that_a_search_gave_up_on_can_go_on(folder: Path) -> None:
    made = driver(folder, 4, stop={"failures": 2})
    made.failed(0, "out of memory", "memory")
    made.failed(1, "out of memory", "memory")
    assert made.closing is not None and "2 trials failed alike" in made.closing
    made.answered(2, Answer("stopped"))
    finish(made, 3, 0.5)
    assert made.history.trials[2].status == "RUNNING"
    made.history.add("close", why=made.closing)
    assert not made.history.over, "trial 2 is left to do"
    resumed = Driver(made.spec, made.base, made.history, RecorderClient(Nobody()), lambda job: job, {})
    assert [trial.ordinal for trial in resumed._waiting] == [2]
    finish(made, 2, 0.5)
    assert made.history.over
    made.history.close()


def test_a_full_disk_ends_a_search_at_once_and_its_trials_are_tried_again(folder: Path) -> None:
    made = driver(folder, 4)
    made.failed(0, "loss is nan", "nan")
    assert made.closing is None
    made.failed(1, "No space left on device: /home/runs/s-0001 could not be written", "disk")
    assert made.closing is not None and "No space left on device" in made.closing
    made.answered(2, Answer("stopped"))
    trials = made.history.trials
    assert (trials[2].status, trials[0].retried, trials[1].retried) == ("RUNNING", False, True)
    made.history.close()


def test_what_a_spent_budget_stopped_is_over_whatever_failed_after(folder: Path) -> None:
    made = driver(folder, 4, budget={"trials": 4, "total_epochs": 1}, stop={"failures": 2})
    made.result(0, 1, {"val/top1": 0.5})
    assert made.closing == "total_epochs"
    made.failed(1, "out of memory", "memory")
    made.failed(2, "out of memory", "memory")
    made.answered(0, Answer("stopped"))
    assert (made.history.trials[0].status, made.history.trials[0].stopped_by) == ("FINISHED", "total_epochs")
    made.history.close()


def test_the_best_epoch_is_the_one_whose_weights_are_kept(folder: Path) -> None:
    objectives = [{"metric": "seconds", "mode": "min"}, {"metric": "val/top1", "mode": "max"}]
    made = driver(folder, 1, select="best", objectives=objectives)
    finish(made, 0, 0.5, 0.9, 0.9, 0.8)
    values = made.history.trials[0].values
    assert (values["seconds"], values["val/top1"], values["val/loss"]) == (40.0, 0.9, pytest.approx(0.1))
    made.history.close()


def test_a_trial_that_draws_how_its_weights_are_selected_is_judged_so(folder: Path) -> None:
    made = driver(folder, 2, space={"select": {"kind": "choice", "values": ["last", "best"]}})
    for ordinal, select in enumerate(("last", "best")):
        made.history.trials[ordinal].params = {"select": select}
        finish(made, ordinal, 0.5, 0.9, 0.7)
    assert [trial.values["val/top1"] for trial in made.trials] == [0.7, 0.9]
    made.history.close()


def test_a_slow_trial_that_is_the_best_is_news(folder: Path) -> None:
    made = driver(folder, 5, stop={"stale_trials": 3})
    for ordinal in (1, 2, 3):
        finish(made, ordinal, 0.5)
    finish(made, 0, 0.9)
    assert made.closing is None
    made.failed(4, "out of memory", "memory")
    assert made.closing is None
    made.history.close()


def test_a_trial_on_the_front_is_news_though_it_is_not_the_most_accurate(folder: Path) -> None:
    objectives = [{"metric": "val/top1", "mode": "max"}, {"metric": "seconds", "mode": "min"}]
    made = driver(folder, 4, objectives=objectives, stop={"stale_trials": 2})
    for ordinal, (top1, seconds) in enumerate([(0.9, 30.0), (0.8, 20.0), (0.7, 10.0), (0.7, 10.0)]):
        made.result(ordinal, 1, {"val/top1": top1, "seconds": seconds})
        made.answered(ordinal, Answer("epochs"))
        assert made.history.stale(made.spec.goals) == (ordinal == 3)
    assert made.closing is None
    made.history.close()


def test_the_front_keeps_its_models_before_what_it_dominates(folder: Path) -> None:
    objectives = [{"metric": "val/top1", "mode": "max"}, {"metric": "seconds", "mode": "min"}]
    made = driver(folder, 3, objectives=objectives)
    for ordinal, (top1, seconds) in enumerate([(0.80, 10.0), (0.90, 100.0), (0.85, 200.0)]):
        made.result(ordinal, 1, {"val/top1": top1, "seconds": seconds})
        made.answered(ordinal, Answer("epochs"))
    assert [trial.ordinal for trial in front(ranked(made.trials, made.goal), made.spec.goals)] == [1, 0]
    swept: list[int] = []
    made.leftovers.sweep = lambda trials, last: swept.extend(trial.ordinal for trial in trials)  # type: ignore[method-assign]
    made.sweep()
    assert swept == [1, 0, 2]
    made.history.close()


def test_followers_are_shown_how_far_a_search_is_and_its_first_failure(folder: Path) -> None:
    made = driver(folder, 4)
    finish(made, 0, 0.5, 0.7)
    made.result(1, 1, {"val/top1": 0.8})
    made.failed(2, "broke", "bug")
    made.failed(3, "broke too", "bug")
    cause = "broke (the first of 2 failed trials)"
    assert standing(made) == Standing("s", "trials", 3, 4, "val/top1", 0.8, cause=cause)
    made.history.close()


def test_causes_are_shown_as_they_are(folder: Path) -> None:
    from rich.console import Console

    made = driver(folder, 1)
    made.failed(0, "RuntimeError: [/pytorch/third_party/gloo.cc:553] closed [enforce fail]", "bug")
    console = Console(width=200, record=True)
    console.print(board(made.spec, made.trials, "s [/b]", False, 10))
    text = console.export_text()
    assert "[/pytorch/third_party/gloo.cc:553] closed [enforce fail]" in text and "s [/b]" in text
    made.history.close()


def ask(made: Driver) -> dict[str, Any]:
    """The configuration of the next run, which there must be."""
    config = made.next()
    assert isinstance(config, dict)
    return {**config, "job": JobSpec.model_validate_json(config["spec"])}


def short(folder: Path, trials: int = 2, **changes: Any) -> Driver:
    """A driver whose trials train for 3 epochs of a job of 5."""
    made = driver(folder, trials, **changes)
    made.finals = Finals(made.spec, made.base, made.base.override({"epochs": 5}), made.history, 1000, 2)
    return made


def reopened(made: Driver) -> Driver:
    """The driver that resumes the search after the other was killed."""
    made.history.close()
    history = History(made.history._journal.path.parent)
    history.add("open")
    resumed = Driver(made.spec, made.base, history, made.recorders, lambda job: job, {})
    resumed.finals = Finals(made.spec, made.base, made.finals.whole, history, 1000, 2)
    return resumed


def test_a_search_ends_with_its_winner_and_its_job_at_full_length(folder: Path) -> None:
    made = short(folder)
    finish(made, 1, 0.5, 0.6, 0.9)
    assert made.next() == LATER, "trial 0 may yet win"
    finish(made, 0, 0.4, 0.5, 0.8)
    winner, base = ask(made), ask(made)
    assert (winner["run"], base["run"], made.next()) == ("s-winner", "s-base", None)
    assert [run["job"].epochs for run in (winner, base)] == [5, 5]
    assert [run["job"].optimizer.lr for run in (winner, base)] == [0.2, made.base.optimizer.lr]
    assert winner["job"].seed == base["job"].seed == made.base.seed
    made.result(winner["ordinal"], 1, {"val/top1": 0.99, "val/loss": 0.1, "seconds": 1.0})
    resumed = reopened(made)
    assert [ask(resumed)["run"], ask(resumed)["run"]] == ["s-winner", "s-base"], "resumed, not chosen anew"
    finish(resumed, winner["ordinal"], 0.99, 0.99, 0.99, 0.99, 0.98)
    finish(resumed, base["ordinal"], 0.5, 0.5, 0.5, 0.5, 0.9)
    assert resumed.next() is None
    assert [trial.ordinal for trial in ranked(resumed.trials, resumed.goal)] == [1, 0], "they steer nothing"
    assert resumed.history.epochs == 6
    resumed.history.add("close", why="trials")
    assert resumed.history.over
    found = lines(resumed.history)
    assert found["winner"] == "trial 1, 5 epochs: test/top1 98.00 %   (run s-winner)"
    assert found["base"] == "the job as it was, 5 epochs: test/top1 90.00 %   (run s-base)"
    assert found["final"].startswith("the winner is better: +8.00 points on 1000 test images (95 % interval +5.9")
    assert found["promote"] == "orchestrator promote s-winner --alias champion"
    assert resumed.finals.runs() == {"winner": "s-winner", "base": "s-base", "chosen": "s-winner"}
    assert reopened(resumed).next() is None, "nothing is trained twice"


def test_a_winner_that_is_worse_than_the_job_as_it_was_is_not_what_is_promoted(folder: Path) -> None:
    made = short(folder, 1)
    finish(made, 0, 0.9, 0.9, 0.9)
    winner, base = ask(made), ask(made)
    finish(made, winner["ordinal"], 0.9, 0.9, 0.9, 0.9, 0.8)
    assert made.finals.runs()["chosen"] == "s-winner", "the other has no score yet"
    finish(made, base["ordinal"], 0.9, 0.9, 0.9, 0.9, 0.9)
    assert made.finals.runs() == {"winner": "s-winner", "base": "s-base", "chosen": "s-base"}
    assert lines(made.history)["promote"] == "orchestrator promote s-base --alias champion"
    made.history.close()


def test_what_was_trained_already_is_not_trained_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.run.finals.storage.size", lambda *which: 1)
    made = driver(folder, 2)
    made.history.trials[0].params = {"optimizer.lr": made.base.optimizer.lr}
    finish(made, 0, 0.5, 0.5, 0.7)
    finish(made, 1, 0.5, 0.6, 0.7005)
    assert made.next() is None, "both trials are runs of the whole job"
    assert {role: trial.ordinal for role, trial in made.history.last.items()} == {"winner": 1, "base": 0}
    made.history.close()


def test_what_no_job_repeats_is_not_to_be_confirmed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.run.finals.storage.size", lambda *which: 1)
    made = driver(folder, 2)
    made.history.trials[1].donors = {1: 0}
    made.history.trials[0].params = {"optimizer.lr": made.base.optimizer.lr}
    finish(made, 0, 0.5, 0.5, 0.7)
    finish(made, 1, 0.5, 0.6, 0.8)
    assert made.next() is None and made.history.last["winner"].ordinal == 1
    assert "promote" in lines(made.history) and "confirm" not in lines(made.history)
    made.history.close()


def test_the_winner_may_be_the_job_as_it_was(folder: Path) -> None:
    made = short(folder, 1)
    made.history.trials[0].params = {"optimizer.lr": made.base.optimizer.lr}
    finish(made, 0, 0.5, 0.5, 0.7)
    assert ask(made)["run"] == "s-winner"
    assert made.next() is None
    finish(made, -1, 0.5, 0.5, 0.5, 0.5, 0.7)
    assert lines(made.history)["final"] == "the winner is the job as it was"
    made.history.close()


def test_the_hours_hold_for_the_runs_at_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = [0.0]
    monkeypatch.setattr(History, "spent_s", property(lambda history: spent[0]))
    made = short(folder, 3, budget={"trials": 9, "hours": 0.1})
    made.result(0, 1, {"val/top1": 0.5, "seconds": 10.0})
    assert made.closing is None
    spent[0] = 311.0  # 49 seconds are left, and two runs of 5 epochs side by side take 50
    made.result(0, 2, {"val/top1": 0.6, "seconds": 20.0})
    assert made.closing == "hours"
    for ordinal in range(3):
        made.answered(ordinal, Answer("stopped"))
    winner = ask(made)
    assert winner["job"].epochs == 5
    spent[0] = 361.0
    made.result(winner["ordinal"], 1, {"val/top1": 0.6})
    made.answered(winner["ordinal"], Answer("stopped"))
    assert made.next() is None
    found = lines(made.history)
    assert found["winner"] == "trial 0, stopped by hours after 1 epochs, so it has no test score"
    assert found["base"] == "the job as it was, stopped by hours after 0 epochs, so it has no test score"
    assert "promote" not in found
    made.history.close()


def test_the_hours_are_those_of_all_drivers_without_the_pauses_between(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("tuning.run.history.time.time", lambda: now[0])
    made = driver(folder, 1)
    now[0] = 1010.0
    made.result(0, 1, {"val/top1": 0.5})
    now[0] = 1013.0
    assert made.history.spent_s == 13.0
    now[0] = 5000.0  # killed after its result, resumed an hour later
    resumed = reopened(made)
    now[0] = 5002.0
    assert resumed.history.spent_s == 12.0
    resumed.history.close()


def test_an_interrupt_leaves_the_runs_at_the_end_to_be_resumed(folder: Path) -> None:
    made = short(folder, 1)
    finish(made, 0, 0.5, 0.6, 0.7)
    winner = ask(made)
    made.over("interrupted")
    made.answered(winner["ordinal"], Answer("stopped"))
    assert made.next() is None and made.history.final is not None
    assert [trial.status for trial in made.history.last.values()] == ["RUNNING", "RUNNING"]
    resumed = reopened(made)
    assert [ask(resumed)["run"], ask(resumed)["run"]] == ["s-winner", "s-base"]
    resumed.history.close()


def test_why_a_search_ends_without_them_is_said(folder: Path) -> None:
    objectives = [{"metric": "val/top1", "mode": "max"}, {"metric": "seconds", "mode": "min"}]
    made = short(folder, 1, objectives=objectives)
    finish(made, 0, 0.5)
    assert made.next() is None
    assert lines(made.history)["final"].startswith("left out: of several objectives there is no one winner")
    made.history.close()


def test_a_search_with_nothing_left_to_try_says_so(folder: Path) -> None:
    space = {"optimizer.lr": {"kind": "choice", "values": [0.1]}}
    made = driver(folder, 1, space=space, searcher={"kind": "tpe"}, budget={"trials": 5}, finish=False)
    made.searcher.begin(0, {"optimizer.lr": 0.1})
    finish(made, 0, 0.5)
    assert made.next() is None and made.ended == "nothing left to try"
    made.history.close()


def test_without_a_result_there_is_no_winner(folder: Path) -> None:
    made = short(folder, 1)
    made.failed(0, "loss is nan", "nan")
    assert made.next() is None
    assert lines(made.history) == {"final": "left out: no trial came to a result"}
    made.history.add("retry", ordinal=0)
    assert made.history.final is None, "a retried trial may win"
    made.history.close()


def test_members_that_wait_for_room_end_with_the_budget(folder: Path) -> None:
    pbt = {"kind": "pbt", "every_epochs": 1}
    made = driver(folder, 3, scheduler=pbt, budget={"trials": 3, "total_epochs": 4})
    for ordinal in range(3):
        assert made.result(ordinal, 1, {"val/top1": 0.1 * ordinal}), "it pauses"
    assert ask(made)["ordinal"] == 0, "one at a time"
    made.result(0, 2, {"val/top1": 0.5})
    made.answered(0, Answer("stopped"))
    assert not made.live and {trial.stopped_by for trial in made.trials} == {"total_epochs"}
    assert made.next() != LATER, "nobody is waited for"
    made.history.close()


def test_hours_end_in_the_middle_of_an_epoch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(driver: Driver, *given: Any) -> None:
        until = time.monotonic() + 30
        while driver.closing is None and time.monotonic() < until:
            time.sleep(0.01)

    monkeypatch.setattr(History, "spent_s", property(lambda history: 361.0))
    monkeypatch.setattr(RecorderClient, "warnings", lambda recorders, seen: [])
    monkeypatch.setattr(tune, "run", run)
    made = driver(folder, 1, budget={"trials": 1, "hours": 0.1})
    shared: Any = None
    assert not tune.watched(made, shared, 1, lambda driver: None, lambda text, lasting: None)
    assert made.closing == "hours"
    made.history.close()


def test_trials_that_a_spent_budget_leaves_no_time_to_resume_are_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = [0.0]
    monkeypatch.setattr(History, "spent_s", property(lambda history: spent[0]))
    made = short(folder, 2, budget={"trials": 9, "hours": 0.1}, finish=False)
    finish(made, 0, 0.5, 0.6, 0.7)
    made.result(1, 1, {"val/top1": 0.4})
    made.over("interrupted")
    made.answered(1, Answer("stopped"))
    resumed = reopened(made)
    spent[0] = 361.0
    assert resumed.next() is None
    assert (resumed.history.trials[1].status, resumed.history.trials[1].stopped_by) == ("FINISHED", "hours")
    assert not resumed.live, "its run is open for ever"
    resumed.history.add("close", why="hours")
    assert resumed.history.over, "and nobody is asked to resume it"
    resumed.history.close()


def test_a_searcher_is_told_of_trials_that_diverged_also_after_a_resumption(folder: Path) -> None:
    made = driver(folder, 3, searcher={"kind": "tpe"}, stop={"failures": 1})
    for ordinal in range(3):
        made.searcher.begin(ordinal, made.history.trials[ordinal].params)
    finish(made, 0, 0.5)
    made.failed(1, "loss is nan", "nan")
    assert made.closing is None, "that part of the space diverges is a result"
    made.failed(2, "out of memory", "memory")
    assert made.closing is not None
    for each in (made, reopened(made)):
        assert isinstance(each.searcher, StudySearcher)
        assert [each.searcher.seen[ordinal].state for ordinal in range(3)] == ["finished", "diverged", "failed"]
        each.history.close()


def test_a_job_that_diverges_wherever_it_is_tried_ends_the_search(folder: Path) -> None:
    made = driver(folder, 3, stop={"failures": 2})
    made.failed(0, "loss is nan", "nan")
    made.failed(1, "loss is nan", "nan")
    assert made.closing is not None and "2 trials failed alike" in made.closing
    made.history.close()


def test_trials_take_no_run_that_a_removed_search_left(folder: Path) -> None:
    made = driver(folder, 1)
    (folder.parent / "s-0001").mkdir()
    made.spec = made.spec.model_copy(update={"budget": SearchBudget(trials=2)})
    assert ask(made)["run"] == "s-0001-2"
    made.history.close()
    assert new_name("t") == "t" and new_run("s-0001") == "s-0001-3"
    shutil.rmtree(folder)
    assert new_name("s") == "s-2", "compare would show the trials of both"


def test_the_base_keeps_its_model_as_the_winner_does(folder: Path) -> None:
    made = short(folder, 3)
    for ordinal in range(3):
        finish(made, ordinal, 0.5, 0.6, 0.7 + 0.1 * ordinal)
    winner, base = ask(made), ask(made)
    finish(made, base["ordinal"], 0.5, 0.5, 0.5, 0.5, 0.9)
    assert [trial.ordinal for trial in kept_first(made.history, made.spec.goals)] == [2, -2, 1, 0]
    finish(made, winner["ordinal"], 0.5, 0.5, 0.5, 0.5, 0.8)
    assert [trial.ordinal for trial in kept_first(made.history, made.spec.goals)] == [-1, 2, -2, 1, 0]
    made.history.close()


def test_the_end_of_a_search_for_balanced_accuracy_says_so(folder: Path) -> None:
    made = short(folder, 1, metric="val/balanced_accuracy")
    finish(made, 0, 0.5, 0.6, 0.7, **{"val/balanced_accuracy": 0.7})
    winner, base = ask(made)["ordinal"], ask(made)["ordinal"]
    for ordinal, top1, balanced in ((winner, 0.80, 0.75), (base, 0.90, 0.70)):
        made.result(ordinal, 5, {"val/top1": top1, "val/balanced_accuracy": balanced})
        metrics = {"test/top1": top1, "test/balanced_accuracy": balanced}
        made.answered(ordinal, Answer("epochs", metrics=metrics))
    assert made.next() is None
    found = lines(made.history)
    assert found["winner"].startswith("trial 0, 5 epochs: test/top1 80.00 %, test/balanced_accuracy 75.00 %   (run")
    assert found["final"].startswith(
        "+5.00 points of test balanced accuracy, one seed each; in accuracy the winner is worse: -10.00 points"
    )
    assert found["promote"] == "orchestrator promote s-winner --alias champion", "what was searched for"
    assert {record.name: record.value for record in made.finals.scores()} == {
        **{"winner/test/top1": 0.80, "winner/test/balanced_accuracy": 0.75},
        **{"base/test/top1": 0.90, "base/test/balanced_accuracy": 0.70},
    }
    made.history.close()

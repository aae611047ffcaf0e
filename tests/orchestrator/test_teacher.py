"""Teachers that only the orchestrator can find: another run's model, and a job that is trained first, once."""

from __future__ import annotations

import pytest

from orchestrator import launch, runs
from orchestrator.home import run_folder
from tests.orchestrator.real import job, mlflow_run

TEACHER = "distillation={teacher: {kind: job, job: jobs/recipes/digits.yaml, set: {epochs: 3, name: teacher}}}"


@pytest.mark.usefixtures("cluster")
def test_a_job_is_trained_once_as_its_own_run_and_its_model_teaches_others() -> None:
    first = launch.train(job("epochs=2", "name=student-one", TEACHER))
    assert first.status == "FINISHED"
    teachers = [run for run in runs.list_runs() if run.name.startswith("teacher-")]
    assert [run.status for run in teachers] == ["FINISHED"]
    client, run = mlflow_run(first.run)
    assert run.data.params["distillation.teacher.kind"] == "job"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss_distillation")] == [1, 2]
    _, taught = mlflow_run(teachers[0].name)
    assert taught.info.status == "FINISHED"

    second = launch.train(job("epochs=2", "name=student-two", "batch_size=32", TEACHER))
    assert second.status == "FINISHED"
    assert len([run for run in runs.list_runs() if run.name.startswith("teacher-")]) == 1, "trained twice"

    by_name = launch.train(
        job("epochs=2", "name=student-three", f"distillation={{teacher: {{kind: run, run: {teachers[0].name}}}}}")
    )
    by_id = launch.train(
        job("epochs=2", "name=student-four", f"distillation={{teacher: {{kind: run, run: {taught.info.run_id}}}}}")
    )
    assert (by_name.status, by_id.status) == ("FINISHED", "FINISHED")
    assert by_name.metrics == by_id.metrics
    assert not list(run_folder(first.run).glob("**/teacher*")), "the student's run holds no copy of its teacher"


@pytest.mark.usefixtures("cluster")
def test_an_unknown_run_is_named_with_its_cure() -> None:
    with pytest.raises(ValueError, match=r"distillation\.teacher: there is no run 'nobody'"):
        launch.train(job("epochs=2", "name=orphan", "distillation={teacher: {kind: run, run: nobody}}"))


@pytest.mark.usefixtures("cluster")
def test_a_teacher_job_that_is_wrong_shows_its_own_mistakes() -> None:
    wrong = "distillation={teacher: {kind: job, job: jobs/recipes/digits.yaml, set: {epoch: 3}}}"
    with pytest.raises(ValueError, match=r"(?s)distillation\.teacher\.job: .*epoch.*epochs"):
        launch.train(job("epochs=2", "name=wrong", wrong))

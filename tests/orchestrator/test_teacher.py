"""Teachers that only the orchestrator can find: another run's model, and a job that is trained first, once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs import specfile
from jobs.distillation import JobTeacher
from jobs.lock import Lock
from jobs.paths import absolute
from jobs.spec import JobSpec
from orchestrator.execution import launch, teacher
from orchestrator.execution.teacher import _of_job
from orchestrator.home import run_folder
from orchestrator.runs import store
from tests.orchestrator.real import job, mlflow_run, wait_until

pytestmark = pytest.mark.slow

TEACHER = "distillation={teacher: {kind: job, job: jobs/recipes/digits.yaml, set: {epochs: 3, name: teacher}}}"


@pytest.mark.usefixtures("cluster")
def test_a_job_is_trained_once_as_its_own_run_and_its_model_teaches_others() -> None:
    first = launch.train(job("epochs=2", "name=student-one", TEACHER))
    assert first.status == "FINISHED"
    teachers = [run for run in store.list_runs() if run.name.startswith("teacher-")]
    assert [run.status for run in teachers] == ["FINISHED"]
    client, run = mlflow_run(first.run)
    assert run.data.params["distillation.teacher.kind"] == "job"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss_distillation")] == [1, 2]
    _, taught = mlflow_run(teachers[0].name)
    assert taught.info.status == "FINISHED"

    def taught_by(how: str, *more: str) -> JobSpec:
        return job("epochs=2", f"distillation={{teacher: {{{how}}}}}", *more)

    name, identity = f"kind: run, run: {teachers[0].name}", f"kind: run, run: {taught.info.run_id}"
    by_name = launch.train(taught_by(name, "name=student-two"))
    assert by_name.status == "FINISHED" and by_name.metrics == first.metrics
    data, trained = job().data.open(), list[JobSpec]()
    known = [job("epochs=2", "batch_size=32", TEACHER), taught_by(name), taught_by(identity)]
    folders = {str(teacher.resolve(each, data, trained.append).distillation) for each in map(absolute, known)}
    assert len(folders) == 1 and str(run_folder(teachers[0].name) / "model") in folders.pop() and not trained
    assert not list(run_folder(first.run).glob("**/teacher*")), "the student's run holds no copy of its teacher"


@pytest.mark.usefixtures("cluster")
def test_a_teacher_that_another_process_trains_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The other process is a thread here, which the lock tells apart just as well."""
    path = tmp_path / "teacher.yaml"
    path.write_text(specfile.dump(job("name=waited-for")))
    teacher = JobTeacher(kind="job", job=str(path))
    inside, go_on, trained = threading.Event(), threading.Event(), []

    def train(spec: JobSpec) -> str:
        inside.set()
        assert go_on.wait(60)
        trained.append(spec.name)
        (run_folder("waited-for-1") / "model").mkdir(parents=True)
        (run_folder("waited-for-1") / "model" / "model.json").write_text("{}")
        return "waited-for-1"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(_of_job, teacher, train)
        assert inside.wait(60)
        second = pool.submit(_of_job, teacher, train)
        wait_until(lambda: "waiting for it" in caplog.text, "the second to wait")
        assert not second.done()
        go_on.set()
        assert first.result(60) == second.result(60) == str(run_folder("waited-for-1") / "model")
    assert trained == ["waited-for"]


def test_a_teacher_that_never_comes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "WAIT_S", 0.1)
    with Lock(tmp_path / "lock"), pytest.raises(ConnectionError, match=r"waited 0 s .* held by pid .*kind: run"):
        teacher._patient_lock(tmp_path / "lock", "teacher.yaml")


def test_an_unknown_run_is_named_with_its_cure() -> None:
    with pytest.raises(ValueError, match=r"distillation\.teacher: there is no run 'nobody'"):
        launch.train(job("epochs=2", "name=orphan", "distillation={teacher: {kind: run, run: nobody}}"))


@pytest.mark.usefixtures("cluster")
def test_a_teacher_job_that_is_wrong_shows_its_own_mistakes() -> None:
    wrong = "distillation={teacher: {kind: job, job: jobs/recipes/digits.yaml, set: {epoch: 3}}}"
    with pytest.raises(ValueError, match=r"(?s)distillation\.teacher\.job: .*epoch.*epochs"):
        launch.train(job("epochs=2", "name=wrong", wrong))

"""The registry: what a promoted model says of itself, and that it answers over HTTP without this project around it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jobs.models import load
from orchestrator.home import default_uri, run_folder
from orchestrator.models import lookup, promotion
from orchestrator.tracking.mlflow import Shipper
from orchestrator.tracking.recorder import Recorder
from tests.orchestrator.real import mlflow_run, orchestrator, wait_until
from tests.orchestrator.test_compare import search

pytestmark = pytest.mark.slow

REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("orchestrator", "tuning", "ray", "typer"):
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def promoted(finished_run: str) -> Any:
    """The run's model, registered by the command line."""
    done = orchestrator("promote", finished_run, "--alias", "champion", "--name", "digits-served")
    assert done.returncode == 0, done.stderr
    assert "digits-served version 1 is champion" in done.stdout
    assert "mlflow models serve --env-manager local -m models:/digits-served@champion" in done.stdout
    client, _ = mlflow_run(finished_run)
    return client.get_model_version_by_alias("digits-served", "champion")


def files_of(version: Any) -> Path:
    return Path(version.source.removeprefix("file://"))


def test_the_version_tells_all_that_is_needed(promoted: Any, finished_run: str) -> None:
    client, run = mlflow_run(finished_run)
    meta = json.loads((run_folder(finished_run) / "model" / "model.json").read_text())
    assert promoted.run_id == run.info.run_id
    assert run.info.status == "FINISHED"
    assert json.loads(promoted.tags["classes"]) == list("0123456789")
    assert json.loads(promoted.tags["preprocessing"]) == meta["preprocessing"]
    assert promoted.tags["dataset.digest"] == run.data.tags["dataset.digest"]
    assert promoted.tags["spec"] == (run_folder(finished_run) / "spec.yaml").read_text()
    assert promoted.tags["repeat"].endswith("orchestrator train spec.yaml")
    assert promoted.tags["repeat"] in promoted.description
    [logged] = client.search_logged_models([run.info.experiment_id], f"name = '{'digits-served'}'")
    assert (logged.status, logged.source_run_id) == ("READY", run.info.run_id)
    assert (files_of(promoted) / "artifacts" / "spec.yaml").exists()


def test_nothing_in_it_is_pickled(promoted: Any) -> None:
    kinds = {path.suffix for path in files_of(promoted).rglob("*") if path.is_file()}
    assert kinds <= {".py", ".json", ".yaml", ".txt", ".safetensors", ".md", ".typed", ""}
    assert not [path for path in files_of(promoted).rglob("*") if "pkl" in path.name or "__pycache__" in path.name]


def test_served_over_http_it_takes_images_and_answers_with_classes(
    promoted: Any, finished_run: str, tmp_path: Path
) -> None:
    """The server must not see this project: all of it but what lies in the model is refused to its imports."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(REFUSE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--port", str(port)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": default_uri(), "PYTHONPATH": str(tmp_path / "path")}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    log = tmp_path / "log"
    with open(log, "w") as file:
        server = subprocess.Popen(
            [*command, "--workers", "1", "-m", "models:/digits-served@champion"],
            cwd=tmp_path, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: server.poll() is not None or _answers(port), "the server")
        assert server.poll() is None, log.read_text()
        raw = load_digits().images[:2]
        pixels = np.rint(raw * (255 / 16)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels[0]).resize((40, 30)).convert("RGB").save(buffer, "PNG")
        rows = [{"image": base64.b64encode(buffer.getvalue()).decode()}, {"image": pixels[1].tolist()}]
        status, answer = _post(port, {"dataframe_records": rows})
        assert status == 200, answer
        given = [Image.open(buffer), Image.fromarray(pixels[1])]
        wanted = load(run_folder(finished_run) / "model").predict(given)
        for row, probabilities in zip(answer["predictions"], wanted, strict=True):
            assert row["class"] == str(probabilities.argmax())
            assert row["probability"] == pytest.approx(probabilities.max(), rel=1e-4)
            assert list(row["probabilities"].values()) == pytest.approx(probabilities.tolist(), rel=1e-3, abs=1e-6)
        status, answer = _post(port, {"dataframe_records": [*rows, {"image": "bm8gaW1hZ2U="}]})
        assert status == 400
        assert "image 2 cannot be read: not an image" in json.dumps(answer)
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def test_what_is_printed_works_where_it_is_pasted(finished_run: str, tmp_path: Path) -> None:
    done = orchestrator("promote", finished_run, "--alias", "champion", "--name", "my digits")
    assert done.returncode == 0, done.stderr
    load, serve = (done.stdout.partition(f"\n{word} ")[2] for word in ("load", "serve"))
    elsewhere = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "ORCHESTRATOR_"))}
    code = "import mlflow\n" + load.splitlines()[0].strip()
    again = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=elsewhere, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    words = shlex.split(serve.replace("\\\n", " "))
    assert words[0] == f"MLFLOW_TRACKING_URI={default_uri()}" and words[-1] == "models:/my digits@champion"


def test_a_second_version_takes_the_alias_and_folders_and_unknown_runs_are_refused(
    promoted: Any, finished_run: str, tmp_path: Path
) -> None:
    second = promotion.promote(finished_run, "challenger", "digits-served")
    assert (second.version, second.uri) == ("2", "models:/digits-served@challenger")
    client, _ = mlflow_run(finished_run)
    assert client.get_model_version_by_alias("digits-served", "champion").version == promoted.version
    shutil.copytree(run_folder(finished_run) / "model", tmp_path / "copy")
    with pytest.raises(ValueError, match="is the folder of a model, but only the model of a run can be registered"):
        promotion.promote(str(tmp_path / "copy"), "champion")
    unknown = orchestrator("promote", "nobody", "--alias", "champion")
    assert unknown.returncode == 2
    assert "there is no run 'nobody'" in unknown.stderr


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def _post(port: int, body: dict[str, Any]) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_search_means_its_best_trial(home: Path, finished_run: str, session_home: Path) -> None:
    search("hunt", [0.3, 0.9, 0.6, None])
    for name in ("hunt", "hunt-0000", "hunt-0001"):
        Shipper(run_folder(name)).ship()
    with pytest.raises(ValueError, match=r"the best trial of search hunt is hunt-0001, which has no model"):
        promotion.promote("hunt", "champion")
    kept = session_home / "runs" / finished_run
    shutil.copytree(kept / "model", run_folder("hunt-0001") / "model")
    shutil.copy(kept / "spec.yaml", run_folder("hunt-0001"))
    with pytest.raises(
        ValueError, match="hunt is a search; name one of its runs: orchestrator compare hunt lists them"
    ):
        lookup.find("hunt")
    made = promotion.promote("hunt", "champion")
    assert (made.run, made.name, made.version) == ("hunt-0001", "finished", "1")
    client, trial = mlflow_run("hunt-0001")
    assert client.get_model_version_by_alias("finished", "champion").run_id == trial.info.run_id
    winner = Recorder(run_folder("hunt"), ship=False)  # as a search writes which run it ended with
    winner.begin("hunt", "digits")
    winner.tag("winner", "hunt-0000")
    winner.close()
    shutil.copytree(kept / "model", run_folder("hunt-0000") / "model")
    shutil.copy(kept / "spec.yaml", run_folder("hunt-0000"))
    assert promotion.promote("hunt", "champion").run == "hunt-0000"
    with pytest.raises(ValueError, match="hunt is a search; name one of its runs: it chose hunt-0000"):
        lookup.find("hunt")
    winner = Recorder(run_folder("hunt"), ship=False)
    winner.begin("hunt", "digits")
    winner.tag("chosen", "hunt-0001")  # the job as it was, which was better
    winner.close()
    assert promotion.promote("hunt", "champion").run == "hunt-0001"
    shutil.copytree(kept / "model", run_folder("hunt-0002") / "model")
    with pytest.raises(ValueError, match=r"run hunt-0002 is not in MLflow yet; send it with: orchestrator sync"):
        promotion.promote("hunt-0002", "champion")


@pytest.mark.parametrize(
    ("alias", "name", "said"),
    [
        ("../x", None, "--alias '../x' is not a valid alias"),
        ("latest", None, "is not a valid alias"),
        ("v1", None, "is not a valid alias"),
        ("", None, "--alias '' is not a valid alias"),
        ("champion", "../../<script>", "--name '../../<script>' is not a valid name"),
        ("champion", "..", "is not a valid name"),
        ("champion", "", "--name '' is not a valid name"),
    ],
)
def test_names_that_mlflow_refuses_are_refused_before_anything_is_made(
    finished_run: str, alias: str, name: str | None, said: str
) -> None:
    client, _ = mlflow_run(finished_run)
    before = [model.name for model in client.search_registered_models()]
    with pytest.raises(ValueError, match=re.escape(said)):
        promotion.promote(finished_run, alias, name)
    assert [model.name for model in client.search_registered_models()] == before

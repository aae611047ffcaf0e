"""Checkpoints and models in a bucket: kept, gone on from after a kill, fetched where they are wanted, and deleted."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from jobs import models as stored
from jobs.checkpoint import State, Store
from jobs.paths import absolute
from orchestrator.execution import launch
from orchestrator.execution.worker import WEIGHTS
from orchestrator.home import run_folder
from orchestrator.models import lookup
from orchestrator.runs import storage
from orchestrator.runs import store as runs
from orchestrator.tracking.state import State as RunState
from tests.jobs.models.tiny import tiny
from tests.orchestrator.real import ROOT, actors, job, mlflow_run, weights
from tests.storage import BUCKET, Storage

pytestmark = pytest.mark.slow

EPOCHS = 40

_KILLED = """
import os, signal, sys, torch
from jobs.checkpoint import State, Store
store = Store(sys.argv[1])
rest = store.fs.pipe_file
def dying(path, data):
    if path.endswith("state.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    rest(path, data)
store.fs.pipe_file = dying
store.save(State(2, {"x": torch.full((3,), 2.0)}))
store.wait()
"""


def test_a_checkpoint_in_a_bucket_counts_when_it_is_whole(server: Storage) -> None:
    url = f"s3://{BUCKET}/atomic"
    store = Store(url, keep=2)
    assert store.newest() is None
    store.save(State(1, {"x": torch.ones(3)}))
    store.wait()
    assert subprocess.run([sys.executable, "-c", _KILLED, url], cwd=ROOT).returncode == -9
    assert store.steps() == [1, 2], "what the kill left is there"
    newest = store.newest()
    assert newest is not None and newest.step == 1 and newest.tree["x"].tolist() == [1, 1, 1]
    for step in (2, 3):  # written over what the kill left; the oldest goes
        store.save(State(step, {"x": torch.full((3,), float(step))}))
    store.wait()
    assert store.steps() == [2, 3]
    assert Store(url).read(2).tree["x"].tolist() == [2, 2, 2]
    server.fs.pipe_file(f"{BUCKET}/atomic/step_000000003/tensors.safetensors", b"damaged")
    newest = Store(url).newest()
    assert newest is not None and newest.step == 2


@pytest.fixture
def server(storage: Storage) -> Storage:
    """Under a name that is not the module's."""
    return storage


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 hand-written digits as an image folder."""
    root, raw = tmp_path_factory.mktemp("digits"), load_digits()
    for number in range(250):
        buffer = io.BytesIO()
        Image.fromarray(np.rint(raw.images[number] * (255 / 16)).astype(np.uint8)).save(buffer, "PNG")
        folder = root / str(raw.target[number])
        folder.mkdir(exist_ok=True)
        (folder / f"{number:03d}.png").write_bytes(buffer.getvalue())
    return root


def test_a_killed_worker_goes_on_from_the_bucket_to_the_weights_of_a_local_run(
    cluster: str, server: Storage, images: Path
) -> None:
    def spec(root: str, *more: str):
        source = f"data={{kind: image_folder, root: {root}, in_memory: false, loader_workers: 0}}"
        return job(source, f"epochs={EPOCHS}", "batch_size=40", *more)

    local = launch.train(spec(str(images), "name=local"))
    assert local.status == "FINISHED"
    killed: list[psutil.Process] = []

    def kill_one(state: RunState) -> None:
        if not killed and any(record.step >= 2 for record in state.records):
            killed.append(actors("RayTrainWorker")[0])
            killed[0].kill()

    where = f"s3://{BUCKET}/runs"
    url = server.put(images, "digits")
    result = launch.train(spec(url, "name=remote", f"checkpoint.storage={where}"), show=kill_one)
    assert killed and not killed[0].is_running()
    assert (result.status, result.ended_by) == ("FINISHED", "epochs")
    (_, before), (client, after) = mlflow_run(local.run), mlflow_run(result.run)
    for tag in (WEIGHTS, "dataset.digest"):
        assert after.data.tags[tag] == before.data.tags[tag]
    theirs, ours = weights(local.run), weights(result.run)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "model" in {artifact.path for artifact in client.list_artifacts(after.info.run_id)}

    there = f"{BUCKET}/runs/{result.run}"
    read = [path for method, path in server.asked if method == "GET" and path.startswith(f"/{there}/checkpoints/step_")]
    assert any(path.endswith("/tensors.safetensors") for path in read), "it began anew"
    assert Store(f"s3://{there}/checkpoints").newest() is not None
    assert not (run_folder(result.run) / "checkpoints").exists()
    for path in run_folder(result.run).rglob("*"):
        assert not path.is_file() or server.environment["AWS_SECRET_ACCESS_KEY"].encode() not in path.read_bytes()
    freed = {item.path for item in runs.gc(dry_run=True) if isinstance(item.path, str)}
    assert f"s3://{there}/checkpoints" in freed and f"s3://{there}/model" not in freed
    assert server.fs.exists(f"{there}/checkpoints"), "that was a dry run"
    for path in sorted((run_folder(result.run) / "model").iterdir()):
        path.unlink()
    found = lookup.find(result.run)
    assert stored.load(found.model).classes == tuple(map(str, range(10))), "fetched anew"
    assert runs.remove(result.run)[result.run] > 0
    assert not server.fs.find(there) and server.fs.find(f"{BUCKET}/digits")


def test_a_search_leaves_the_best_model_in_the_bucket(cluster: str, server: Storage) -> None:
    from tests.tuning.test_driver import search, spec

    where = f"s3://{BUCKET}/hunt"
    base = {"resources.workers": 1, "model.width": 8, "checkpoint.storage": where}
    outcome = search(spec("hunt", models_mb=0, budget={"trials": 2, "epochs_per_trial": 2}, set=base))
    best = outcome.ranked[0].run
    left = {path.split("/")[2] for path in server.fs.find(f"{BUCKET}/hunt") if "/checkpoints/" in path}
    kept = {path.split("/")[2] for path in server.fs.find(f"{BUCKET}/hunt") if "/model/" in path}
    assert (left, kept) == (set(), {best})
    assert stored.load(lookup.find(best).model)


def test_teachers_and_weights_to_start_from_are_handed_over_once(server: Storage, tmp_path: Path) -> None:
    tiny(tmp_path / "model")
    given = f"{{kind: model, path: {tmp_path / 'model'}}}"
    spec = job(f"checkpoint.storage=s3://{BUCKET}/handed", f"distillation={{teacher: {given}}}")
    server.asked.clear()
    first, second = storage.shared(spec), storage.shared(spec)
    assert first == second and first.distillation is not None
    path = first.distillation.teacher.folder(None)
    assert path.startswith(f"s3://{BUCKET}/handed/weights/")
    written = [where for method, where in server.asked if method == "PUT"]
    assert len(written) == len(set(written)) == 2, "written once"
    ours, theirs = stored.load(path), stored.load(tmp_path / "model")
    assert all(torch.equal(ours.network.state_dict()[n], v) for n, v in theirs.network.state_dict().items())


def test_a_storage_that_cannot_be_written_to_is_refused(
    server: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.check(None)
    storage.check(f"s3://{BUCKET}/fine")
    storage.check(f"file://{tmp_path}/fine")
    with pytest.raises(ValueError, match=r"checkpoint\.storage s3://mistyped/x cannot be used: there is no bucket"):
        storage.check("s3://mistyped/x")
    assert not server.fs.exists("mistyped"), "and none is made"
    with pytest.raises(ValueError, match=r"checkpoint\.storage 's3://who@bucket/x' was given with a password"):
        absolute(job("checkpoint.storage=s3://who:planted@bucket/x"))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"checkpoint\.storage .*file/x cannot be used: .*Not a directory"):
        storage.check(str(tmp_path / "file" / "x"))

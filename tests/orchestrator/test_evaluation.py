"""A trained run judged: its own figures again, and the files that explain them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jobs import specfile
from jobs.models import load
from jobs.outcome import keep_model
from jobs.place import Place
from jobs.predict import Prediction
from jobs.report import Keep
from jobs.spec import JobSpec
from jobs.train import train
from orchestrator.cli.models import _write_csv
from orchestrator.home import run_folder
from orchestrator.models import lookup
from orchestrator.models.evaluation import _own, evaluate
from orchestrator.models.figures import Pair, confused_pairs, reliability
from orchestrator.runs.images import settle
from tests.jobs.digits_job import job
from tests.orchestrator.real import mlflow_run, orchestrator, points

pytestmark = pytest.mark.slow


def write_digits(root: Path, count: int) -> Path:
    """The first so many digits as PNG files in class folders; with every other size doubled."""
    raw = load_digits()
    for number in range(count):
        path = root / str(raw.target[number]) / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.rint(raw.images[number] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def test_the_test_split_gives_exactly_what_the_run_recorded(finished_run: str) -> None:
    client, run = mlflow_run(finished_run)
    recorded = {name: points(client, run, f"test/{name}")[-1][1] for name in ("top1", "loss", "balanced_accuracy")}
    done = orchestrator("evaluate", finished_run, "--data", "test")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the same") == 4, done.stdout
    [folder] = (run_folder(finished_run) / "evaluations").iterdir()
    told = json.loads((folder / "metrics.json").read_text())
    assert {name: told["metrics"][name] for name in recorded} == recorded
    assert sorted(path.name for path in folder.iterdir()) == [
        "confused_pairs.png",
        "confusion_matrix.png",
        "metrics.json",
        "reliability.png",
    ]
    classes = {row["name"]: row for row in told["classes"]}
    assert sum(row["count"] for row in classes.values()) == sum(row["predicted"] for row in classes.values()) == 360
    for name, row in classes.items():
        assert row["recall"] == points(client, run, f"test/recall/{name}")[-1][1]
    wrong = sum(map(sum, told["confusion"])) - sum(row[place] for place, row in enumerate(told["confusion"]))
    assert len(told["wrong"]) == wrong > 0
    assert all(row["image"].startswith("image ") for row in told["wrong"]), "as the source calls them"
    assert 0 < told["metrics"]["ece"] < 1


def test_a_run_is_found_by_its_id_and_by_folders(finished_run: str, tmp_path: Path) -> None:
    _, run = mlflow_run(finished_run)
    folder = run_folder(finished_run)
    for name in (run.info.run_id, str(folder), str(folder / "model")):
        assert lookup.find(name).name == finished_run
    shutil.copytree(folder / "model", tmp_path / "copy")
    copied = lookup.find(str(tmp_path / "copy"))
    assert copied.name == "copy"
    with pytest.raises(ValueError, match="its own splits are unknown; give the path of labelled images"):
        evaluate(str(tmp_path / "copy"), "test")
    with pytest.raises(
        ValueError, match=r"there is no run 'nobody'.*nor is it a folder, nor the id of a run in MLflow"
    ):
        lookup.find("nobody")


def test_a_split_that_is_no_longer_the_run_s_is_refused(finished_run: str, tmp_path: Path) -> None:
    """Half of what is now called test may have been trained on."""
    moved = tmp_path / finished_run
    shutil.copytree(run_folder(finished_run), moved)
    spec = moved / "spec.yaml"
    spec.write_text(spec.read_text().replace("split_seed: 0", "split_seed: 1"))
    with pytest.raises(ValueError, match=r"has changed since it was trained .*may hold images that it was trained on"):
        evaluate(str(moved), "test")
    spec.write_text(spec.read_text().replace("split_seed: 1", "split_seed: 0"))
    meta = json.loads((moved / "model" / "model.json").read_text())
    del meta["json_sha256"]
    (moved / "model" / "model.json").write_text(json.dumps({**meta, "classes": meta["classes"][::-1]}))
    with pytest.raises(ValueError, match=r"has the classes 0, 1, .*, but its model counts 9, 8, "):
        evaluate(str(moved), "test")


def test_images_that_it_was_trained_on_are_counted(finished_run: str, tmp_path: Path) -> None:
    """As where somebody gives the folder that the job was made of."""
    root = write_digits(tmp_path / "set", 200)
    moved = tmp_path / finished_run
    shutil.copytree(run_folder(finished_run), moved)
    spec = moved / "spec.yaml"
    own = specfile.read(spec, JobSpec).override({"data": {"kind": "image_folder", "root": str(root)}})
    spec.write_text(specfile.dump(own))
    train = len(own.data.open().train)
    seen = f"{train} of these 200 images are of the train split of {finished_run}: the model has seen them"
    assert 0 < train < 200 and any(note.startswith(seen) for note in evaluate(str(moved), str(root)).notes)
    shutil.copytree(root, tmp_path / "other")
    assert not any("train split" in note for note in evaluate(str(moved), str(tmp_path / "other")).notes)


def test_a_folder_of_images_is_judged_and_what_was_left_out_is_named(finished_run: str, tmp_path: Path) -> None:
    root = write_digits(tmp_path / "set", 60)
    shutil.rmtree(root / "7")
    (root / "3" / "broken.png").write_bytes(b"\x89PNG nothing")
    refused = orchestrator("evaluate", finished_run, "--data", str(root))
    assert refused.returncode == 2
    assert "3/broken.png" in refused.stderr
    done = orchestrator(
        "evaluate", finished_run, "--data", str(root), "--max-corrupt", "1", "-o", str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr
    assert "1 images cannot be read and were left out" in done.stdout
    assert "no images of 1 of the 10 classes: 7" in done.stdout
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    files = sorted(root.glob("*/*.png"))
    files.remove(root / "3" / "broken.png")
    found = load(run_folder(finished_run) / "model").predict([Image.open(file) for file in files])
    right = [file.parent.name == str(best) for file, best in zip(files, found.argmax(1), strict=True)]
    assert told["metrics"]["top1"] == pytest.approx(np.mean(right), abs=1.01 / len(files))  # the run computes in bf16
    assert told["classes"][7] == {"name": "7", "count": 0, "predicted": told["classes"][7]["predicted"]} | {
        "recall": None,
        "precision": None if not told["classes"][7]["predicted"] else 0.0,
    }


def test_predict_writes_a_row_a_file_and_says_which_are_broken(finished_run: str, tmp_path: Path) -> None:
    root = write_digits(tmp_path / "set", 30)
    (root / "2" / "a.png").write_bytes(b"")
    done = orchestrator("predict", finished_run, str(root), "-o", str(tmp_path / "out.csv"))
    assert done.returncode == 0, done.stderr
    assert "warning: 1 of 31 files cannot be read" in done.stderr
    assert "2/a.png: zero bytes" in done.stderr
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    assert len(rows) == 31
    good = [row for row in rows if not row["error"]]
    wanted = load(run_folder(finished_run) / "model").predict([Image.open(row["file"]) for row in good])
    found = np.array([[float(row[f"p({name})"]) for name in range(10)] for row in good])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert [row["class"] for row in good] == [str(best) for best in wanted.argmax(1)]
    assert [row["error"] for row in rows if not row["class"]] == ["zero bytes"]

    top = orchestrator("predict", finished_run, f"{root}/1/*.png", "--top", "3")
    head = next(csv.reader(io.StringIO(top.stdout)))
    assert head == ["file", "class", "probability", "class_2", "probability_2", "class_3", "probability_3", "error"]
    (tmp_path / "none").mkdir()
    for where in (tmp_path / "none", root / "2" / "a.png"):
        nothing = orchestrator("predict", finished_run, str(where))
        assert nothing.returncode == 1 and "there is no image that can be read" in nothing.stderr
    missing = orchestrator("predict", finished_run, f"{root}/nothing")
    assert missing.returncode == 2
    assert "is no file, no folder" in missing.stderr


def test_export_says_how_far_it_is_off_and_where_it_lies(finished_run: str) -> None:
    done = orchestrator("export", finished_run, "--to", "onnx")
    assert done.returncode == 0, done.stderr
    assert "parity   logits differ by" in done.stdout
    assert "tolerated" in done.stdout
    assert (run_folder(finished_run) / "exports" / "onnx" / "model.onnx").stat().st_size > 10_000
    again = orchestrator("export", finished_run, "--to", "onnx")
    assert again.returncode == 2
    assert "is there already" in again.stderr


def test_figures_show_the_gap_and_the_images() -> None:
    from jobs.scoring import calibration

    confidence = np.array([0.9, 0.9, 0.5, 0.5])
    upper, lower = reliability(calibration(confidence, np.array([True, True, True, False]))).axes
    assert upper.figure.get_suptitle() == "Expected calibration error 5.00%"
    accuracy, gap = upper.containers
    assert [bar.get_height() for bar in accuracy] == [50, 100]
    assert [round(bar.get_height(), 6) for bar in gap] == [0, 10]
    assert [bar.get_height() for bar in lower.containers[0]] == [2, 2]
    image = np.full((4, 4, 1), 7, np.uint8)
    figure = confused_pairs(
        [Pair("cat", "dog", 2, 5, [image, image + 1], [0.9, 0.8]), Pair("a", "b", 1, 1, [image], [1])],
        ["cat", "dog", "a", "b"],
    )
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_xlabel() for axes in shown] == ["90%", "80%", "100%"]
    assert [int(axes.images[0].get_array().max()) for axes in shown] == [7, 8, 7]
    assert [text.get_text() for text in figure.axes[0].texts] == ["cat", "predicted as", "dog", "2 of 5"]
    assert confused_pairs([], []).texts[0].get_text() == "No class was confused with another."


def test_a_run_that_only_mlflow_has_is_judged_all_the_same(
    finished_run: str, home: Path, session_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine: its own home is empty, the store is the other one's."""
    store = f"sqlite:///{session_home / 'mlflow.db'}"
    run_id = json.loads((session_home / "runs" / finished_run / "shipped.json").read_text())["run_id"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    found = evaluate(run_id, "test")
    assert {name: found.metrics[name] for name in found.recorded} == found.recorded
    assert found.folder.is_relative_to(home / "models" / run_id)
    spec = lookup.find(run_id).model.parent / "spec.yaml"
    spec.write_text(spec.read_text().replace("split_seed: 0", "split_seed: 1"))
    with pytest.raises(ValueError, match="has changed since it was trained"):
        evaluate(run_id, "test")


def test_a_spreadsheet_calculates_nothing_where_that_is_asked() -> None:
    odd = ["=cmd()", "-1", "plain"]
    found = Prediction("@a.png", np.array([0.5, 0.3, 0.2], np.float32)), Prediction("+b.png", None, "zero bytes")
    for quoted, wanted in ((False, ["@a.png", "=cmd()", "+b.png"]), (True, ["'@a.png", "'=cmd()", "'+b.png"])):
        buffer = io.StringIO()
        _write_csv(csv.writer(buffer), found, odd, 3, quoted)
        _, first, second = csv.reader(io.StringIO(buffer.getvalue()))
        assert [first[0], first[1], second[0]] == wanted
        assert first[3] == f"{chr(39) if quoted else ''}-1" and float(first[4]) == 0.3


def test_the_splits_of_a_run_that_was_resumed_with_another_check(home: Path, tmp_path: Path) -> None:
    """It began with content that was looked at, and its spec says sizes now."""
    source = {"kind": "image_folder", "root": str(write_digits(tmp_path / "digits", 200)), "in_memory": False}
    full = job(data={**source, "mean": [0.5], "std": [0.5]}, epochs=2, batch_size=20)
    outcome, data = train(full, Place(), Keep(), {"data": full.data.open()}), full.data.open()
    keep_model(str(tmp_path / "run" / "model"), outcome, data)
    settle(tmp_path / "run", data)
    resumed = full.model_copy(update={"data": full.data.model_copy(update={"check": "sizes"})})
    (tmp_path / "run" / "spec.yaml").write_text(specfile.dump(resumed))
    (tmp_path / "run" / "output").mkdir()
    found = lookup.Found("run", tmp_path / "run" / "model", tmp_path / "run", tmp_path / "run" / "output")
    split = _own(found, "test", load(found.model)).split
    assert np.array_equal(split.labels, data.test.labels)
    next((tmp_path / "digits" / "0").iterdir()).unlink()
    with pytest.raises(ValueError, match="has changed since it was trained"):
        _own(found, "test", load(found.model))

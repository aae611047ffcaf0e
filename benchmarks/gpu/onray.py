"""Stage 6: the whole product on Ray with a GPU: one worker, trials that share the card, a search with a teacher."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu.cell import Cell, Row, Setting, Stage
from benchmarks.gpu.rows import read

ROOT = Path(__file__).parents[2]
RATED = "loops: wide ResNet-20 at 32 px"
"""The cell of stage 4 that has the same job."""


@contextmanager
def home() -> Iterator[Path]:
    """A new ORCHESTRATOR_HOME."""
    with tempfile.TemporaryDirectory(prefix="gpu-home-") as path:
        os.environ["ORCHESTRATOR_HOME"] = path
        for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            os.environ.pop(name, None)
        yield Path(path)


def called(module: str, *words: str, code: int = 0) -> tuple[str, float]:
    """What a command printed, and its seconds."""
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    sys.stderr.write(done.stdout)
    tail = " | ".join(done.stdout.strip().splitlines()[-3:])[-300:]
    assert done.returncode == code, f"{' '.join(words[:2])} ended with {done.returncode}: {tail}"
    return done.stdout, time.time() - began


def runs() -> list[Any]:
    """All of MLflow's runs in this home, the newest first."""
    from mlflow import MlflowClient

    from orchestrator.home import default_uri

    client = MlflowClient(default_uri())
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


def job(setting: Setting, folder: Path, **changes: Any) -> Path:
    """A job's file, with images that the workers generate."""
    from benchmarks.gpu.fast import NETWORKS
    from benchmarks.gpu.made import job as made
    from benchmarks.gpu.made import written

    network = dict(NETWORKS[RATED.removeprefix("loops: ")])
    if setting.quick:
        network = {"model": {"kind": "cnn", "width": 4}, "batch_size": 32}
    fixed = {"data__samples": setting.pick(50_000, 400), "data__size": setting.pick(32, 8), "epochs": 4}
    gpu = {"resources__use_gpu": setting.device == "cuda"}
    return written(folder / "job.yaml", made(**{**network, **fixed, **gpu, **changes}))


def train(setting: Setting) -> Row:
    """Command to first update, rate by epoch, and what MLflow has of the device."""
    with home() as folder:
        os.environ["BENCHMARK_MARKS"] = str(folder / "marks")
        began = time.time()
        _, seconds = called("benchmarks.probe", "train", str(job(setting, folder)))
        marks: dict[str, float] = {}
        for line in (folder / "marks").read_text().splitlines():
            marks.setdefault(*json.loads(line))
        (run,) = runs()
        from mlflow import MlflowClient

        from orchestrator.home import default_uri

        client, metrics = MlflowClient(default_uri()), run.data.metrics
        rates = [point.value for point in client.get_metric_history(run.info.run_id, "images_per_s")]
    alone = [row for row in read(setting.folder) if row["cell"] == RATED and "images/s" in row]
    alone = [row for row in alone if row["device"] == setting.device and not row["quick"] and not setting.quick]
    rate = statistics.median(rates[1:])
    told = {name: run.data.tags.get(name) for name in ("device", "precision", "channels_last")}
    figures = {name: round(metrics[name], 1) for name in ("peak_memory_mb", "system/cpu_percent") if name in metrics}
    return {
        "ok": "peak_memory_mb" in metrics and bool(told["device"]),
        "s to the first update": round(marks["step"] - began, 1),
        "s in all": round(seconds, 1),
        "images/s by epoch": [round(rate) for rate in rates],
        "against the loop alone": round(rate / alone[-1]["images/s"]["ours"][0], 3) if alone else None,
        "MLflow": told | figures,
    }


def halves(setting: Setting) -> Row:
    """Two trials on half a GPU each, against one after the other: from the first one's start to the last one's end."""
    row: Row = {}
    for name, share, together in (("side by side", 0.5, 2), ("one after the other", 1.0, 1)):
        with home() as folder:
            path = folder / "search.yaml"
            spec = {
                "name": "halves",
                "job": str(job(setting, folder, epochs=setting.pick(6, 2))),
                "space": {"optimizer.lr": {"kind": "choice", "values": [0.05, 0.1]}},
                "searcher": {"kind": "grid"},
                "budget": {"trials": 2, "epochs_per_trial": setting.pick(6, 2)},
                "finish": False,
                "max_concurrent": together,
                "gpus_per_trial": share if setting.device == "cuda" else None,
            }
            path.write_text(json.dumps(spec), encoding="utf-8")
            called("orchestrator", "search", "launch", str(path))
            trials = [run for run in runs() if "mlflow.parentRunId" in run.data.tags]
        assert len(trials) == 2, f"{len(trials)} trials"
        begins, ends = [run.info.start_time for run in trials], [run.info.end_time for run in trials]
        row[f"s {name}"] = round((max(ends) - min(begins)) / 1e3, 1)
        row[f"ended, {name}"] = sorted(run.info.status for run in trials)
    row["ratio"] = round(row["s one after the other"] / row["s side by side"], 2)
    return {"ok": all(status == "FINISHED" for name in row if name.startswith("ended") for status in row[name])} | row


def search(setting: Setting) -> Row:
    """The four axes with a teacher that is trained first, on digits."""
    with home():
        gpu = str(setting.device == "cuda").lower()
        words = ["tuning/searches/digits.yaml", "-s", f"set.resources.use_gpu={gpu}"]
        if setting.device == "cuda":
            words += ["-s", "gpus_per_trial=0.5"]
        words += ["-s", f"budget.trials={setting.pick(8, 2)}", "-s", f"budget.epochs_per_trial={setting.pick(10, 6)}"]
        words += ["-s", "finish=false"]
        _, seconds = called("orchestrator", "search", "launch", *words)
        trials = [run for run in runs() if "mlflow.parentRunId" in run.data.tags]
    best = max((run.data.metrics.get("val/top1", 0.0) for run in trials), default=0.0)
    ended = sorted(run.info.status for run in trials)
    read_ = [run.data.tags["logits_read"] for run in trials if "logits_read" in run.data.tags]
    row = {"trials": len(trials), "ended": ended, "best val/top1": best, "s in all": round(seconds, 1)}
    return {"ok": bool(trials) and set(ended) == {"FINISHED"}, **row, "teacher's answers read": read_}


def memory(setting: Setting) -> Row:
    """A job that no card holds: it fails at once, with exit code 1, and says what to do."""
    if setting.device != "cuda":
        return {"ok": None, "note": "a CPU's memory does not end like this"}
    from orchestrator.execution.worker import MEMORY_CURE

    with home() as folder:
        large = {"model": {"kind": "resnet", "depth": 50}, "batch_size": 8192, "data__samples": 12_000}
        text, seconds = called("orchestrator", "train", str(job(setting, folder, **large, data__size=160)), code=1)
    words = " ".join(text.split())
    return {
        "ok": MEMORY_CURE.split(";")[0] in words and "beginning again" not in words,
        "s until it ended": round(seconds, 1),
        "said": next((line for line in text.splitlines() if "memory" in line), "")[:200],
    }


def cells(setting: Setting) -> list[Cell]:
    """One job first."""
    acts = {"train with one worker": train, "out of memory": memory, "two trials": halves, "four axes, teacher": search}
    return [Cell(name, act, 240.0) for name, act in acts.items()]


STAGE = Stage("onray", "on Ray: one worker, two trials on halves of a GPU, a search, out of memory", 240.0, cells)

"""Dry runs and runs of jobs and searches agree on what a cluster can hold."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from jobs import specfile
from jobs.words import byte_size
from orchestrator.execution import capacity, launch
from orchestrator.execution.capacity import Cluster, Node
from orchestrator.execution.plan import plan
from orchestrator.prepare import prepare
from tests.orchestrator.real import ROOT, job
from tuning.run import launch as searches
from tuning.run import plan as search_plan
from tuning.run import prepare as search_prepare
from tuning.spec.search import SearchSpec

ONE, TWO = [(2, 0)], [(8, 1), (8, 1)]
TABLE: list[tuple[list[tuple[float, float]], str, Any, bool, int]] = [
    # nodes (CPUs, GPUs), resources, gpus_per_trial, whether on GPUs, trials at a time (0: does not fit)
    (ONE, "{workers: 1}", None, False, 2),
    (ONE, "{workers: 2}", None, False, 1),
    (ONE, "{workers: 4}", None, False, 0),
    (ONE, "{workers: 1, cpus_per_worker: 2}", None, False, 1),
    (ONE, "{workers: 1, cpus_per_worker: 0.5}", None, False, 4),
    (ONE, "{workers: 1, cpus_per_worker: 3}", None, False, 0),
    (ONE, "{workers: 1, use_gpu: true}", None, True, 0),
    (ONE, "{workers: 1, cpus_per_worker: 1.5}", None, False, 1),
    ([(16, 1)], "{workers: 1}", None, True, 1),
    ([(16, 1)], "{workers: 1}", 0.5, True, 2),
    ([(16, 1)], "{workers: 1}", 0.15, True, 6),
    ([(4, 1)], "{workers: 1}", 0.15, True, 4),
    ([(16, 1)], "{workers: 1, use_gpu: false}", 0.5, False, 16),
    ([(16, 1)], "{workers: 2}", None, False, 8),
    ([(16, 1)], "{workers: 2, use_gpu: true}", None, True, 0),
    ([(64, 8)], "{workers: 1}", None, True, 8),
    ([(64, 8)], "{workers: 1}", 0.15, True, 48),
    ([(64, 8)], "{workers: 1, cpus_per_worker: 8}", 0.5, True, 8),
    ([(64, 8)], "{workers: 4}", None, True, 2),
    ([(64, 8)], "{workers: 8}", None, True, 1),
    ([(64, 8)], "{workers: 16}", None, False, 4),
    ([(64, 8)], "{workers: 4, cpus_per_worker: 16}", None, True, 1),
    (TWO, "{workers: 2}", None, True, 1),
    (TWO, "{workers: 1}", 0.4, True, 4),
    (TWO, "{workers: 1, cpus_per_worker: 9}", None, False, 0),
    (TWO, "{workers: 2, cpus_per_worker: 8}", None, True, 1),
    (TWO, "{workers: 4, cpus_per_worker: 5}", None, False, 0),
    ([(8, 0), (1, 2)], "{workers: 2, use_gpu: true}", None, True, 0),
    ([(8, 0), (1, 2)], "{workers: 2}", None, False, 4),
    ([(8, 0), (1, 2)], "{workers: 1}", None, True, 1),
    ([(3, 0), (3, 0), (3, 0)], "{workers: 4, cpus_per_worker: 2}", None, False, 0),
]


class StartedError(Exception):
    """Ray would have been started."""


@pytest.fixture(autouse=True)
def no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would start Ray raises instead: the table's clusters do not exist."""

    def start(*_: Any, **__: Any) -> None:
        raise StartedError

    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    monkeypatch.setattr(launch, "start_ray", start)
    monkeypatch.setattr(searches, "start_ray", start)
    monkeypatch.setattr(search_plan, "images_per_s", lambda *_: 1000.0)
    monkeypatch.setattr("orchestrator.execution.nodes.check_shared", lambda storage: None)


def search(resources: str, share: float | None) -> SearchSpec:
    changes = [
        "max_concurrent=null",
        f"set={{resources: {resources}}}",
        *([f"gpus_per_trial={share}"] if share else []),
    ]
    return specfile.read(ROOT / "tuning/searches/digits.yaml", SearchSpec, changes)


@pytest.mark.slow
def test_plans_and_runs_agree_on_made_up_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(TABLE) >= 30
    for nodes, resources, share, on_gpus, trials in TABLE:
        what = f"{nodes} {resources} {share}"
        cluster = Cluster(tuple(Node(f"n{at}", *node) for at, node in enumerate(nodes)), live=True)
        for name in ("at_hand", "here"):
            monkeypatch.setattr(Cluster, name, lambda cluster=cluster: cluster)
        spec = job(f"resources={resources}")
        found = prepare(spec, cluster)
        assert (found.fit.use_gpu, found.fit.problem is None) == (on_gpus, trials > 0), what
        lines, fits = plan(found)
        assert fits == (trials > 0), what
        many = search(resources, share)
        prepared = search_prepare.prepare(many, cluster)
        assert prepared.trials.count == trials, what
        said, room = search_plan.plan(prepared)
        assert room == (trials > 0) and said["concurrency"].startswith(f"{trials} at a time"), what
        expected = StartedError if trials else ValueError
        with pytest.raises(expected) as one:
            launch.train(spec)
        with pytest.raises(expected) as other:
            searches.search(many)
        if not trials:
            assert lines["verdict"] == f"does not fit: {one.value}" and str(one.value) == str(other.value), what


def test_a_process_that_may_use_few_cpus_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("jobs.allowed.cpus", lambda: 1)
    lines, fits = plan(prepare(job("resources.workers=2"), Cluster.here()))
    said = "2 workers x 1 CPUs = 2 CPUs, but there are 1 CPUs and 0 GPUs that this process may use here; lower"
    assert not fits and lines["verdict"].startswith(f"does not fit: {said}")


def test_more_trials_than_the_memory_holds_are_mentioned_before_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("jobs.allowed.memory", lambda: 2**30)
    monkeypatch.setattr("jobs.allowed.cpus", lambda: 4)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(Cluster, "at_hand", Cluster.here)  # whatever this process is connected to
    many = search("{workers: 1}", None)
    with pytest.raises(StartedError):
        searches.search(many, tell=lambda text, lasting: told.append(text))
    [said] = [text for text in told if text.startswith("memory: 4 at a time take ")]
    lines, fits = search_plan.plan(search_prepare.prepare(many, Cluster.here()))
    assert not fits and lines["verdict"] == f"does not fit: {said}" and said not in lines.values()


def test_a_plan_says_how_much_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine, or of a control group of it, that others use too."""
    said = "less memory is free now than the job takes; wait for other programs to end"
    monkeypatch.setattr("orchestrator.execution.plan.memory", lambda: 16 * 2**30)
    for free, few in ((2**30 // 2, True), (8 * 2**30, False), (64 * 2**30, False)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        lines, fits = plan(prepare(job(), Cluster.here()))
        assert fits and (said in lines.values()) == few
        assert lines["memory"].endswith(f"of 16.0 GB in all, {byte_size(min(free, 16 * 2**30))} free now")
    monkeypatch.setattr("orchestrator.execution.plan.memory", lambda: 2**30)
    assert not plan(prepare(job(), Cluster.here()))[1], "a container of so little never holds it"


def test_what_a_plan_remarks_on_is_said_before_a_run_starts_too() -> None:
    told: list[str] = []
    said = "early_stopping.patience_epochs 99 of {} epochs: the run never stops early"
    with pytest.raises(StartedError):
        launch.train(job("early_stopping={patience_epochs: 99}"), tell=lambda text, lasting: told.append(text))
    assert said.format(15) in told
    many = search("{workers: 1}", None)
    many = many.model_copy(update={"set": {**many.set, "early_stopping": {"patience_epochs": 99}}})
    with pytest.raises(StartedError):
        searches.search(many, tell=lambda text, lasting: told.append(text))
    assert any(said.format(epochs) in told for epochs in (15, 20))


def test_several_workers_of_a_trial_do_not_share_a_gpu() -> None:
    with pytest.raises(ValueError, match=r"gpus_per_trial 0.5 is for trials of one worker: each of 2 workers takes"):
        search_prepare.prepare(search("{workers: 2}", 0.5), Cluster((Node("big", 16, 4),)))


def test_an_autoscaler_is_waited_for_up_to_what_it_may_start() -> None:
    small = (Node("head", 2),)
    fit = capacity.fit(job("resources.workers=8"), Cluster(small, later=(16, 0), grows=True))
    assert fit.problem is None and fit.remark.endswith("may start more nodes, and the job waits for them")
    fit = capacity.fit(job("resources.workers=32"), Cluster(small, later=(16, 0), grows=True))
    assert str(fit.problem).startswith("32 workers x 1 CPUs = 32 CPUs, but there are 16 CPUs")
    assert capacity.fit(job("resources.workers=32"), Cluster(small, grows=True)).problem is None


def test_a_plan_for_gpus_that_are_missing_says_so_and_times_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_plan, "images_per_s", None)  # calling it would raise
    wanted = search("{workers: 1, use_gpu: true}", None)
    said, fits = search_plan.plan(search_prepare.prepare(wanted, Cluster((Node("n", 2),))))
    assert not fits and said["time"] == "not estimated: the search does not fit"
    said, fits = search_plan.plan(search_prepare.prepare(search("{workers: 1}", None), Cluster((Node("n", 2, 1),))))
    assert fits and said["time"].startswith("not estimated: trials run on GPUs, and this machine has none")


def test_a_plan_says_who_reads_streamed_images_for_a_gpu(home: Path, tmp_path: Path) -> None:
    cluster = Cluster((Node("n", 64, 8), Node("small", 17, 2), Node("head", 96)), live=True)
    streamed = "data.in_memory=false"

    def said(*changes: str) -> str | None:
        return plan(prepare(job(*changes), cluster))[0].get("loading")

    one = "training images are read by 1 process a worker"
    more = "; a GPU's share of its node is 8 CPUs: resources.cpus_per_worker=8 lets so many read"
    assert said(streamed) == one + more
    assert said(streamed, "resources.cpus_per_worker=2.5") == "training images are read by 3 processes a worker" + more
    assert said(streamed, "resources.cpus_per_worker=8") == "training images are read by 8 processes a worker"
    assert said(streamed, "data.loader_workers=1") == one
    assert said() is said(streamed, "resources.use_gpu=false") is None
    grey = np.random.default_rng(0).integers(0, 256, (40, 60, 80), np.uint8)
    for number, image in enumerate(grey):
        (folder := tmp_path / "photos" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.jpg")
    photos = f"data={{kind: image_folder, root: {tmp_path / 'photos'}, size: 32, in_memory: false, prepare: 40}}"
    assert said(photos, "data.prepare_as=jpeg", "batch_size=8") == one + more
    assert said(photos, "batch_size=8") is None  # a GPU with room holds the pixels

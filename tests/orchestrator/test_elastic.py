"""A job of a varying number of workers, on a cluster whose nodes come and go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from orchestrator.home import run_folder
from orchestrator.tracking.journal import FILE, read
from tests.orchestrator.real import DIGITS, Command, mlflow_run, points

pytestmark = pytest.mark.slow

EPOCHS = 150
ONE, TWO = "training with 1 of 2 workers", "training with 2 of 2 workers"


@pytest.fixture
def nodes(cluster: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of two nodes of one CPU each, with the token that this process has."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


def drain(cluster: Cluster, node: str) -> None:
    """Say that a node is about to be preempted."""
    ray = str(Path(sys.executable).with_name("ray"))
    words = [
        "--reason",
        "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message",
        "spot",
        "--deadline-remaining-seconds",
        "600",
    ]
    command = [ray, "drain-node", "--address", cluster.address, "--node-id", node, *words]
    subprocess.run(command, check=True, capture_output=True, text=True)


def test_workers_leave_with_their_node_and_return_with_it(nodes: Cluster, home: Path) -> None:
    elastic = "resources.workers={min: 1, max: 2}"
    words = ["train", DIGITS, "-s", f"epochs={EPOCHS}", "-s", "name=elastic", "-s", elastic]
    with Command(*words, env={"RAY_ADDRESS": nodes.address}) as run:

        def go_on(workers: str, times: int) -> None:
            run.wait_for(f"({workers}[^§]*){{{times}}}")
            run.wait_for(f"({workers}[^§]*){{{times}}}(epoch [^§]*){{4}}")

        name = run.wait_for(r"run (elastic-\S+)")[1]
        go_on(TWO, 1)
        (lost,) = nodes.worker_nodes
        nodes.remove_node(lost, allow_graceful=False)
        go_on(ONE, 1)
        assert run.output.count("beginning again from the newest checkpoint") == 1
        preempted = nodes.add_node(num_cpus=1)
        go_on(TWO, 2)
        drain(nodes, preempted.node_id)
        go_on(ONE, 2)
        assert run.end() == 0, run.output
    assert run.output.count("beginning again") == 1, "who is told before leaves off at a checkpoint"
    client, found = mlflow_run(name)
    assert (found.info.status, found.data.tags["workers"]) == ("FINISHED", "1")
    for metric in ("train/loss", "val/top1", "lr"):
        assert [step for step, _ in points(client, found, metric)] == list(range(1, EPOCHS + 1)), metric
    assert found.data.metrics["test/top1"] > 0.97
    tags = [entry.event["value"] for entry in read(run_folder(name) / FILE) if entry.event.get("key") == "workers"]
    assert tags == ["2", "1", "2", "1"]

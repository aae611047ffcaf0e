"""One home and one Ray cluster for the whole test run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.lock import Lock
from orchestrator.execution import alike, kept, session
from tests.storage import Storage

_LONGEST = ("test_search_kills.py", "test_submit.py", "test_kills.py", "test_driver.py", "test_your_images.py")
os.environ.update(session.ENVIRONMENT | session.ALONE)  # before anything imports Ray, which reads them then


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever uses the Ray cluster or a browser as slow, so that ``make test-fast`` cannot meet it by mistake.

    Files with slow tests come first, the longest ahead, and are dealt out to the processes in turn; each gets a
    stretch of the list: what is left for the end, when some have nothing to do, is fast.
    """
    for item in items:
        if isinstance(item, pytest.Function) and not {"cluster", "browser"}.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    slow = [each for each in files.values() if any(item.get_closest_marker("slow") for item in each)]
    slow.sort(key=lambda each: (*_LONGEST, each[0].path.name).index(each[0].path.name))
    fast = [each for each in files.values() if each not in slow]
    dealt = [file for turn in range(count) for each in (slow, fast) for file in each[turn::count]]
    items[:] = [item for file in dealt for item in file]


@pytest.fixture(scope="session", autouse=True)
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """ORCHESTRATOR_HOME of the test run; nothing is written to the user's."""
    folder = tmp_path_factory.mktemp("home")
    before = os.environ.get("ORCHESTRATOR_HOME")
    os.environ["ORCHESTRATOR_HOME"] = str(folder)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    yield folder
    os.environ.pop("ORCHESTRATOR_HOME")
    if before is not None:
        os.environ["ORCHESTRATOR_HOME"] = before


@pytest.fixture(scope="session")
def storage_server() -> Iterator[Storage]:
    """An S3 server that is not started yet; the environment names it, to the cluster's processes too."""
    server = Storage()
    os.environ.update(server.environment)
    yield server
    server.stop()
    for name in server.environment:
        os.environ.pop(name, None)


@pytest.fixture
def storage(storage_server: Storage) -> Storage:
    """An S3 server on loopback with a bucket, for the whole test run: use names of your own in it."""
    storage_server.start()
    return storage_server


@pytest.fixture(scope="session")
def cluster(session_home: Path, storage_server: Storage) -> Iterator[str]:
    """The Ray cluster, on this machine, with two CPUs whatever it has; its token, which other clusters do not know."""
    import ray

    session.start_own(cpus=2, lasting=True)
    yield os.environ.pop("RAY_AUTH_TOKEN")
    ray.shutdown()


@pytest.fixture(scope="session")
def kept_cluster(cluster: str) -> kept.Kept:
    """The cluster of the test run, as ``orchestrator up`` would note it."""
    from ray._private.worker import global_worker

    worker: Any = global_worker
    return kept.Kept(
        worker.gcs_client.address,
        cluster,
        worker.node.get_session_dir_path(),
        os.getpid(),
        time.time(),
        3600,
        2,
        alike.code(),
        {},
        list(os.environ),
        [],
    )


@pytest.fixture
def warm(kept_cluster: kept.Kept, request: pytest.FixtureRequest) -> Iterator[None]:
    """Commands of the test join the cluster of the test run: for what tests neither Ray's start nor its end."""
    if "home" in request.fixturenames:  # the note belongs there
        request.getfixturevalue("home")
    with Lock(kept.keeping()):
        replace(kept_cluster, settings=alike.settings(os.environ)).write()
        yield
        kept.note().unlink()


@pytest.fixture(scope="session")
def cifar10_parquet() -> Path:
    """The folder with train.parquet and test.parquet, a slice of real CIFAR-10 (2,000 and 600 images)."""
    return Path(__file__).parent / "data" / "cifar10"


@pytest.fixture(scope="session", autouse=True)
def cifar10_of_benchmarks(cifar10_parquet: Path) -> Iterator[None]:
    """Benchmarks that tests run read the slice, whatever the environment names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR10_PARQUET", str(cifar10_parquet))
        yield

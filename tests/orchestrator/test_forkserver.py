"""Workers that are copies: equal to those that Ray starts, different from each other, and gone with their cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray._raylet import Config  # type: ignore[attr-defined]

from orchestrator.execution.forkserver import client
from tests.orchestrator.real import ROOT, wait_until

_DRIVER = """
import json, os, sys, threading
from pathlib import Path
import psutil
from orchestrator.execution import forkserver, session
from orchestrator.execution.session import start_ray

if "plain" in sys.argv:
    forkserver.start = lambda *given: None
start_ray(dashboard=False)
import ray

class Worker:
    def look(self):
        names = []
        draw = lambda: names.append(ray.get_runtime_context().get_task_id())  # of a thread: drawn
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join()
        files = sorted({os.readlink(f"/proc/self/fd/{n}").split("session_")[0].split("[")[0] for n in range(3)})
        ready = {
            "environment": dict(os.environ), "path": sys.path, "words": sys.argv[0], "folder": os.getcwd(),
            "files": files, "leads": os.getpgrp() == os.getpid(), "threads": os.environ["OMP_NUM_THREADS"],
            "score": Path("/proc/self/oom_score_adj").read_text(), "main": sys.modules["__main__"].__file__,
        }
        parent = psutil.Process(os.getppid()).cmdline()
        return ready, names, "orchestrator.execution.forkserver.server" in parent, os.getpid()

for line in sys.stdin:
    options = json.loads(line)
    workers = [ray.remote(Worker).options(**options).remote() for _ in range(3)]
    print(json.dumps(ray.get([worker.look.remote() for worker in workers])), flush=True)
"""


class Driver:
    """A process with a cluster of its own."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, *words],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "OMP_", "PYTEST_"))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def workers(self, **options: Any) -> list[tuple[dict[str, Any], list[str], bool, int]]:
        """What three workers say of themselves."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps({"num_cpus": 0, **options}), file=self.process.stdin, flush=True)
        answer: list[tuple[dict[str, Any], list[str], bool, int]] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it and its cluster."""
        self.process.communicate()


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    found = Driver()
    yield found
    found.close()


def test_a_copy_is_as_the_worker_that_ray_starts(driver: Driver) -> None:
    plain = Driver("plain")
    theirs, ours = plain.workers()[0], driver.workers()[0]
    plain.close()
    assert not theirs[2] and ours[2]
    of_each = ("RAY_AUTH_TOKEN", "RAY_RAYLET_PID")
    environments = [{**each[0].pop("environment"), **dict.fromkeys(of_each)} for each in (ours, theirs)]
    assert set(environments[0].items()) ^ set(environments[1].items()) == set()
    assert ours[0] == theirs[0]


def test_copies_draw_different_names(driver: Driver) -> None:
    found = driver.workers()
    assert len({name for _, names, _, _ in found for name in names}) == 3
    assert len({process for *_, process in found}) == 3


def test_what_acts_when_a_process_starts_is_not_lost(driver: Driver) -> None:
    found = driver.workers(runtime_env={"env_vars": {"MALLOC_ARENA_MAX": "1", "PLAIN": "2"}})
    assert [each[0]["environment"]["MALLOC_ARENA_MAX"] for each in found] == ["1"] * 3
    assert not any(copied for _, _, copied, _ in found)
    found = driver.workers(runtime_env={"env_vars": {"PLAIN": "2"}})
    assert [each[0]["environment"]["PLAIN"] for each in found] == ["2"] * 3
    assert all(copied for _, _, copied, _ in found)


def test_without_its_fork_server_a_cluster_works_on(driver: Driver) -> None:
    (server,) = servers(driver.process.pid)
    server.kill()
    wait_until(lambda: server.status() == psutil.STATUS_ZOMBIE, "the end of the fork server")
    assert not any(copied for _, _, copied, _ in driver.workers(runtime_env={"env_vars": {"OTHER": "1"}}))


def servers(driver: int) -> list[psutil.Process]:
    """Its fork servers."""
    children = psutil.Process(driver).children()
    return [each for each in children if "orchestrator.execution.forkserver.server" in each.cmdline()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_killed_driver(number: signal.Signals) -> None:
    driver = Driver()
    workers = [psutil.Process(process) for *_, process in driver.workers()]
    (server,) = servers(driver.process.pid)
    folder = Path(server.net_connections("unix")[0].laddr).parent
    driver.process.send_signal(number)
    driver.process.wait()
    assert not psutil.wait_procs([*workers, server], 60)[1], "a process was left behind"
    assert not folder.exists()


def test_it_ends_with_its_cluster() -> None:
    script = (
        "import psutil, ray\n"
        "from orchestrator.execution.session import start_ray\n"
        "for _ in range(2):\n"
        "    start_ray(dashboard=False)\n"
        "    ray.get(ray.remote(num_cpus=0)(lambda: 1).remote())\n"
        "    name = 'orchestrator.execution.forkserver.server'\n"
        "    servers = [p for p in psutil.Process().children() if name in p.cmdline()]\n"
        "    assert len(servers) == 1, servers\n"
        "    ray.shutdown()\n"
        "    assert not psutil.wait_procs(servers, 60)[1]\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_workers_start_where_the_folder_of_their_driver_is_gone(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from orchestrator.execution.session import start_ray\n"
        "start_ray(dashboard=False)\n"
        "os.rmdir(os.getcwd())\n"
        "import ray\n"
        "class Worker:\n"
        "    def look(self):\n"
        "        return os.getpid()\n"
        "workers = [ray.remote(num_cpus=0)(Worker).remote() for _ in range(3)]\n"
        "assert len(set(ray.get([worker.look.remote() for worker in workers], timeout=120))) == 3\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local"}
    folder = tmp_path / "gone"
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_client_becomes_the_worker_where_its_server_hangs(tmp_path: Path) -> None:
    assert Config.worker_register_timeout_seconds() > client._ANSWER_S, "a raylet would give it up first"
    script = "import sys\nfrom orchestrator.execution.forkserver import client\nclient._ANSWER_S = 0.5\nclient.main()"
    said = tmp_path / "said"  # no pipe: the hanging socket would hold its end
    with socket.socket(socket.AF_UNIX) as hanging, said.open("w") as file:
        hanging.bind(str(tmp_path / "socket"))
        hanging.listen()
        words = [sys.executable, "-c", script, str(tmp_path / "socket"), "-c", "print('plain')"]
        subprocess.run(words, cwd=ROOT, stdout=file, check=True)
    assert said.read_text() == "plain\n"

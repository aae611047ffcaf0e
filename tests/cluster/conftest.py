"""A cluster of three hosts that ``ray up deploy/local.yaml`` started, and the laptop that it was started from."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import CHECKOUT, KEY, SHARED, Host, Hosts, hosts, until

HOME = SHARED / "orchestrator"
"""ORCHESTRATOR_HOME of the cluster."""
CONFIG = Path("/srv/home/local.yaml")
CLIENT = (
    "export RAY_AUTH_TOKEN_PATH=~/.ray/cluster_token RAY_API_SERVER_ADDRESS=http://localhost:8265 RAY_AUTH_MODE=token; "
)
"""What docs/cluster.md has one export."""
OWN = {"DashboardAgent", "RuntimeEnvAgent", "IDLE"}
"""Ray's own processes on a host that does no work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests beside this file are marked ``cluster``; they say how far they are by lines of their own."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


class Cluster(Hosts):
    """The hosts, with what is asked of a cluster."""

    def nodes(self) -> int:
        """How many nodes Ray says are alive."""
        told = self.ssh(self.hosts[0], f". ~/.orchestrator.env; python -c '{_ALIVE}'", check=False).stdout
        return int(told.strip() or 0)

    def submit(self, name: str, command: str) -> None:
        """Start ``python -m orchestrator COMMAND`` as the Ray job ``name``."""
        self.laptop(
            f"{CLIENT} ray job submit --no-wait --working-dir . --submission-id {name} -- "
            f"python -m orchestrator {command}"
        )

    def logs(self, name: str) -> str:
        """What a job has printed."""
        return self.laptop(f"{CLIENT} ray job logs {name}", check=False).stdout

    def ended(self, name: str) -> str:
        """How a job ended, or nothing while it runs."""
        told = self.laptop(f"{CLIENT} ray job status {name}", check=False)
        found = re.search(r"\b(succeeded|FAILED|STOPPED)\b|(failed)\b", told.stdout + told.stderr)
        return found.group() if found else ""

    def wait(self, name: str, wait_s: float = 400) -> None:
        """Until a job succeeded; else its lines are the error."""
        how = until(lambda: self.ended(name), f"the job {name} ended", wait_s)
        assert how == "succeeded", self.logs(name)

    def works(self, host: Host) -> bool:
        """Whether somebody's work is being done on a host."""
        titles = (re.match(r"ray::(\w+)", line) for line in self.processes(host))
        return any(title and title.group(1) not in OWN for title in titles)


_ALIVE = (
    "from ray._raylet import GcsClient as C; "
    'print(sum(n.state == 0 for n in C(address="127.0.0.1:6379").get_all_node_info().values()))'
)


def config(folder: Path, count: int) -> str:
    """deploy/local.yaml as a newcomer would change it, for machines of one CPU that have an environment already."""
    text = (CHECKOUT / "deploy" / "local.yaml").read_text(encoding="utf-8")
    changes = {
        "192.168.1.10  #": "10.88.0.11  #",
        "[192.168.1.11, 192.168.1.12]": str([f"10.88.0.{10 + n}" for n in range(2, count + 1)]).replace("'", ""),
        "ssh_user: me": "ssh_user: root",
        "~/.ssh/id_ed25519": str(KEY),
        "VENV=$HOME/orchestrator-environment/venv": f"VENV={CHECKOUT}/.venv",
        "ray start ": "ray start --num-cpus=1 ",
    }
    for old, new in changes.items():
        assert old in text, f"deploy/local.yaml has no {old!r}"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three hosts on which nothing runs yet."""
    with hosts(tmp_path_factory.mktemp("hosts"), 3, Cluster) as made:
        yield made


@pytest.fixture(scope="session")
def up(machines: Cluster) -> Cluster:
    """The cluster on them: started by ``ray up``, its token fetched, its dashboard forwarded to the laptop."""
    (machines.of_laptop.folder / "home" / CONFIG.name).write_text(config(CONFIG, len(machines.hosts)))
    before = time.monotonic()
    machines.laptop(f"ray up --yes {CONFIG}")
    until(lambda: machines.nodes() == len(machines.hosts), "all hosts were nodes", 600)
    print(f"ray up, until all {len(machines.hosts)} nodes were there: {time.monotonic() - before:.0f} s")
    machines.laptop(f"mkdir -m 700 -p ~/.ray; ray rsync-down {CONFIG} '~/.ray/auth_token' ~/.ray/cluster_token")
    machines.laptop(f"(ray dashboard {CONFIG} >~/dashboard.log 2>&1 &)")
    until(lambda: machines.laptop("curl -s http://localhost:8265", check=False).stdout, "the dashboard was forwarded")
    return machines

"""What a process may use of its machine, by its affinity and by control groups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from jobs import allowed

GB = 2**30
UNLIMITED = 9223372036854771712


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16 CPUs and 64 GB, whose control groups are files of ours."""
    monkeypatch.setattr(allowed, "_OWN", tmp_path / "own")
    monkeypatch.setattr(allowed, "_ALL", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"total": 64 * GB}))
    return tmp_path


def write(groups: Path, own: str, **files: str) -> None:
    (groups / "own").write_text(own)
    for name, text in files.items():
        path = groups / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("own", "files", "cpus", "memory"),
    [
        ("0::/\n", {}, 16, 64),  # a machine of one's own
        ("0::/\n", {"cpu.max": "400000 100000", "memory.max": str(8 * GB)}, 4, 8),  # a container
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, 16, 64),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1, 64),
        ("0::/\n", {"cpu.max": "250000 100000"}, 2, 64),
        ("0::/job/step\n", {"job/cpu.max": "200000 100000", "job/step/cpu.max": "max 100000"}, 2, 64),
        ("0::/job/step\n", {"job/memory.max": str(9 * GB), "job/step/memory.max": str(6 * GB)}, 16, 6),
        (
            "3:cpu,cpuacct:/job\n2:memory:/job\n0::/\n",
            {
                "cpu/job/cpu.cfs_quota_us": "300000",
                "cpu/job/cpu.cfs_period_us": "100000",
                "memory/job/memory.limit_in_bytes": str(7 * GB),
                "memory/memory.limit_in_bytes": str(UNLIMITED),
            },
            *(3, 7),
        ),
        (  # docker shows the path outside of the container
            "3:cpu,cpuacct:/docker/0a\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            *(16, 64),
        ),
    ],
)
def test_quotas_of_all_groups_above_hold(groups: Path, own: str, files: dict[str, str], cpus: int, memory: int) -> None:
    write(groups, own, **files)
    assert (allowed.cpus(), allowed.memory()) == (cpus, memory * GB)


def test_affinity_holds(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(groups, "0::/\n", **{"cpu.max": "800000 100000"})
    assert allowed.cpus() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 7})
    assert allowed.cpus() == 2


def test_without_control_groups_it_is_the_machine(groups: Path) -> None:
    assert (allowed.cpus(), allowed.memory()) == (16, 64 * GB)

"""What of its machine this process may use: CPUs and memory, within its affinity and its control groups.

``taskset``, SLURM and ``docker --cpuset-cpus`` set an affinity; ``docker --cpus`` and ``--memory``, Kubernetes and
systemd set quotas of control groups, in version 1 or 2 of their files. A group has at most what the groups above it
have.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_OWN, _ALL = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cpus() -> int:
    """Number of CPUs, one at least; of a quota whole ones."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [*_values("", "cpu.max"), *_values("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us")]
    shares = [int(quota) // int(period) for quota, period in map(str.split, quotas) if quota.isdigit()]
    return max(1, min([found, *shares]))


def memory() -> int:
    """Bytes of memory."""
    limits = [*_values("", "memory.max"), *_values("memory", "memory.limit_in_bytes")]
    total: int = psutil.virtual_memory().total
    return min([total, *(int(limit) for limit in limits if limit.isdigit())])


def _values(controller: str, *names: str) -> Iterator[str]:
    """What files of this process's control group, and of each group above it, say, with a space between files.

    Args:
        controller: of version 1; empty for version 2, which has one tree for all.
        names: of the files; groups that lack one are left out.
    """
    for line in _OWN.read_text(encoding="utf-8").splitlines() if _OWN.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        top = _ALL / controller
        group = top / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
            if all((folder / name).exists() for name in names):
                yield " ".join((folder / name).read_text(encoding="utf-8").strip() for name in names)

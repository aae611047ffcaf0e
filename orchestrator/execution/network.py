"""How workers reach each other.

On one machine they meet in a file that only their user can open, and listen on loopback alone. Ray's own way, which
remains where they are on several nodes, is a store of rank 0 that listens on every interface and asks nobody who they
are.

Gloo binds to what the machine's own name resolves to, which Debian's and Ubuntu's installers make 127.0.1.1: workers on
several such machines would hang. So there it is set to the interface of the address by which Ray knows the node. (NCCL
skips loopback by itself.)
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.train.torch import TorchConfig

if TYPE_CHECKING:
    from ray.train.backend import BackendConfig
    from ray.train.v2._internal.execution.worker_group import WorkerGroup

_LOOPBACK = "127.0.0.1"


def use_the_interface_of_the_node() -> None:
    """Set it for gloo in this process, a worker's; a ``GLOO_SOCKET_IFNAME`` that is set already wins."""
    import ray

    use_the_interface_of(ray.util.get_node_ip_address())


def use_the_interface_of(address: str) -> None:
    """Set the interface that has an address, for gloo in this process; one that is set already wins."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(one.family in (socket.AF_INET, socket.AF_INET6) and one.address == address for one in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _meeting_place() -> str:
    """A new folder on this node, which no other user can enter."""
    from ray._private.worker import global_worker

    assert global_worker.node is not None
    return tempfile.mkdtemp(prefix="workers-", dir=global_worker.node.get_session_dir_path())


def _join(folder: str, backend: str, rank: int, world: int, timeout_s: float) -> None:
    """Form the process group of the workers of one machine, in each of them."""
    import torch.distributed as dist

    use_the_interface_of(_LOOPBACK)
    url = (Path(folder) / "store").as_uri()
    timeout = timedelta(seconds=timeout_s)
    dist.init_process_group(backend, init_method=url, rank=rank, world_size=world, timeout=timeout)


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]
    folder: str | None = None

    def on_start(self, worker_group: WorkerGroup, backend_config: Torch) -> None:
        import ray

        if len(set(worker_group.execute(ray.util.get_node_ip_address))) > 1:
            worker_group.execute(use_the_interface_of_the_node)
            super().on_start(worker_group, backend_config)
            return
        self.folder = worker_group.execute_single(0, _meeting_place)
        world, backend, timeout_s = len(worker_group), backend_config.backend, backend_config.timeout_s
        ranks = range(world)
        joining: list[Any] = [
            worker_group.execute_single_async(rank, _join, self.folder, backend, rank, world, timeout_s)
            for rank in ranks
        ]
        ray.get(joining)

    def on_shutdown(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        super().on_shutdown(worker_group, backend_config)
        if self.folder is not None:
            worker_group.execute_single(0, shutil.rmtree, self.folder, ignore_errors=True)


class Torch(TorchConfig):
    """Ray's, for workers that may be on several nodes."""

    @property
    def backend_cls(self) -> type:
        """What sets up the process group."""
        return _Backend

"""How workers reach each other.

On one machine they meet in a file that only their user can open, and listen on loopback alone. Where they are on
several nodes, they meet at a store of rank 0 that listens on every interface and asks nobody who they are.

Gloo binds to what the machine's own name resolves to, which Debian's and Ubuntu's installers make 127.0.1.1: workers on
several such machines would hang. So there it is set to the interface of the address by which Ray knows the node. (NCCL
skips loopback by itself.)
"""

from __future__ import annotations

import os
import socket
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from ray.train.backend import Backend, BackendConfig

_LOOPBACK = "127.0.0.1"
TIMEOUT_S = 1800.0
"""How long a worker waits for the others of its group in the middle of a job."""


def use_the_interface_of(address: str) -> None:
    """Set the interface that has an address, for gloo in this process; one that is set already wins."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(one.family in (socket.AF_INET, socket.AF_INET6) and one.address == address for one in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _offer() -> dict[str, str]:
    """URLs at which others can meet rank 0, this process: a file that only this user can open, and a port of it."""
    from ray._private.worker import global_worker
    from ray.train._internal.utils import get_address_and_port

    assert global_worker.node is not None
    folder = tempfile.mkdtemp(prefix="workers-", dir=global_worker.node.get_session_dir_path())
    host, port = get_address_and_port()
    host = f"[{host}]" if ":" in host else host
    return {"alone": (Path(folder) / "store").as_uri(), "apart": f"tcp://{host}:{port}"}


def join(board: Any, rank: int, world: int, backend: str) -> None:
    """Form the process group of a group's workers, in each of them.

    Args:
        board: the controller of the group (``orchestrator.execution.controller``).
        rank: of this worker.
        world: number of workers.
        backend: gloo or nccl.
    """
    import ray
    import torch.distributed as dist

    here = ray.util.get_node_ip_address()
    offer = {"node": ray.get_runtime_context().get_node_id(), **(_offer() if rank == 0 else {})}
    url = ray.get(board.arrive.remote(rank, world, offer))
    use_the_interface_of(_LOOPBACK if url.startswith("file:") else here)
    if backend == "nccl" and "TORCH_NCCL_BLOCKING_WAIT" not in os.environ:
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")  # who waits in vain fails
    dist.init_process_group(backend, init_method=url, rank=rank, world_size=world, timeout=timedelta(seconds=TIMEOUT_S))


class _Backend(Backend):
    share_cuda_visible_devices = True


class Meeting(BackendConfig):
    """For Ray Train, whose controller has nothing to set up: workers meet by themselves (:func:`join`). Unlike Ray's
    own configuration for torch it does not import torch there."""

    @property
    def backend_cls(self) -> type[Backend]:
        """Lets the workers of a node see each other's GPUs."""
        return _Backend

"""How workers on several nodes reach each other.

Gloo binds to what the machine's own name resolves to, which Debian's and Ubuntu's installers make 127.0.1.1: workers on
several such machines would hang. So it is set to the interface of the address by which Ray knows the node. (NCCL skips
loopback by itself.)
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from ray.train.torch import TorchConfig

if TYPE_CHECKING:
    from ray.train.backend import BackendConfig
    from ray.train.v2._internal.execution.worker_group import WorkerGroup


def use_the_interface_of_the_node() -> None:
    """Set it for gloo in this process, a worker's; a ``GLOO_SOCKET_IFNAME`` that is set already wins."""
    import psutil
    import ray

    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.family in (socket.AF_INET, socket.AF_INET6) and one.address == address for one in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        import ray

        if len(set(worker_group.execute(ray.util.get_node_ip_address))) > 1:
            worker_group.execute(use_the_interface_of_the_node)
        super().on_start(worker_group, backend_config)


class Torch(TorchConfig):
    """Ray's, for workers that may be on several nodes."""

    @property
    def backend_cls(self) -> type:
        """What sets up the process group."""
        return _Backend

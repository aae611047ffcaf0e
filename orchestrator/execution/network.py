"""How workers on several nodes reach each other.

Gloo binds to what the machine's own name resolves to, which Debian's and Ubuntu's installers make 127.0.1.1: workers on
several such machines would wait for each other for ever. So it is told the interface of the address by which Ray knows
the node. (NCCL leaves loopback out by itself.)
"""

from __future__ import annotations

import os
import socket
from typing import Any

from ray.train.torch import TorchConfig


def use_the_interface_of_the_node() -> None:
    """Have gloo use it in this process, a worker's; ``GLOO_SOCKET_IFNAME`` wins where it is set."""
    import psutil
    import ray

    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.family in (socket.AF_INET, socket.AF_INET6) and one.address == address for one in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        import ray

        if len(set(worker_group.execute(ray.util.get_node_ip_address))) > 1:
            worker_group.execute(use_the_interface_of_the_node)
        super().on_start(worker_group, backend_config)


class Torch(TorchConfig):  # type: ignore[misc]
    """Ray's, for workers that may be on several nodes."""

    @property
    def backend_cls(self) -> type:
        """What sets up the process group."""
        return _Backend

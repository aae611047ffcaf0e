"""What ``orchestrator doctor --address`` looks at on a cluster, from outside, over its dashboard's port."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from importlib.metadata import version
from urllib.parse import urlsplit

from orchestrator.cluster.client import Cluster, ClusterError
from orchestrator.doctor.finding import Finding, Found


def reached(cluster: Cluster) -> Found:
    """Whether it answers, and to whom."""
    try:
        guarded = cluster.guarded
    except ClusterError as error:
        return Finding("problem", "cluster", str(error))
    if not guarded:
        cure = (
            "restart it with RAY_AUTH_MODE=token in the environment of ray start on every node, and one token "
            "(ray get-auth-token --generate)"
        )
        told = f"{cluster.address} wants no token: whoever reaches it may run any code"
        return [Finding("problem", "cluster's token", told, cure), Finding("ok", "cluster", cluster.address)]
    try:
        cluster.version  # noqa: B018  (asks, with the token)
    except ClusterError as error:
        return Finding("problem", "cluster", str(error))
    return [Finding("ok", "cluster's token", "wanted, and ours is taken"), Finding("ok", "cluster", cluster.address)]


def versions(cluster: Cluster) -> Found:
    """Whether its Ray is ours."""
    here = version("ray")
    if cluster.version != here:
        cure = f"pip install ray[default,train,tune]=={cluster.version} here, or {here} there: they must be equal"
        return Finding("problem", "cluster's Ray", f"{cluster.version} there, {here} here", cure)
    return Finding("ok", "cluster's Ray", here)


def listening(cluster: Cluster) -> Found:
    """Whether its dashboard can be reached from other machines, as far as this machine can see."""
    host = urlsplit(cluster.address).hostname or ""
    open_to = [] if _loopback(host) else [host]
    port = urlsplit(cluster.address).port or 80
    if not open_to:  # it may be this machine's, or the end of a tunnel
        own = {node.address for node in cluster.room().nodes if node.head and not _loopback(node.address)}
        open_to = [address for address in own if _answers(address, port)]
    if open_to:
        plain = "" if cluster.address.startswith("https") else ", and the token travels unencrypted"
        cure = (
            "let it listen on loopback (ray start --dashboard-host 127.0.0.1, the default) and come through "
            f"ssh -N -L {port}:127.0.0.1:{port} HEAD, or put TLS before it"
        )
        return Finding("warning", "dashboard", f"it listens on {', '.join(open_to)}{plain}", cure)
    return Finding("ok", "dashboard", "on loopback, as far as this machine can see")


def nodes(cluster: Cluster) -> Found:
    """Nodes and what they have."""
    room = cluster.room()
    told = f"{len(room.nodes)} with {room.cpus:g} CPUs and {room.gpus:g} GPUs"
    grows = ", more where its autoscaler starts them" if room.grows else ""
    if room.cpus == 0 and room.gpus == 0 and not room.grows:
        return Finding("problem", "nodes", told, "nothing can run: start nodes with CPUs (ray start --num-cpus)")
    return Finding("ok", "nodes", told + grows)


def home_shared(cluster: Cluster) -> Found:
    """Whether more than one node writes what runs leave."""
    if len(cluster.room().nodes) < 2 and not cluster.room().grows:
        return Finding("ok", "cluster's home", "one node: nothing to share")
    cure = (
        "set ORCHESTRATOR_HOME in the environment of ray start to a folder on a disk that all nodes mount, or a job's "
        "checkpoint.storage to one or to a bucket; a job on several nodes refuses to start without"
    )
    return Finding("warning", "cluster's home", "several nodes: whether they share a home is not seen from here", cure)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


THERE: tuple[Callable[[Cluster], Found], ...] = (reached, versions, listening, nodes, home_shared)
"""What is looked at on a cluster; the first says whether the others can be."""

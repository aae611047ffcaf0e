"""A Ray cluster through its job server: whether it wants a token, what it has room for, and its jobs and their logs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

LOCAL = "http://127.0.0.1:8265"
"""Where a cluster on this machine has its job server by default."""
TOKEN_FILE = "~/.ray/auth_token"
RUN, KIND, DIGEST, NEED, TRACKING, AGAIN, WAIT = "run", "kind", "digest", "need", "tracking", "again", "stop_wait_s"
"""Metadata of a job of ours: name of its run, ``job`` or ``search``, SHA-256 of its spec, workers and what they take,
the tracking server, the command that submits it again, and the seconds it has for a last checkpoint."""
OVER = ("SUCCEEDED", "FAILED", "STOPPED")
_TIMEOUT_S = 10.0

State = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED"]


class ClusterError(ConnectionError):
    """The cluster cannot be reached or used; the message has the cure."""


@dataclass(frozen=True)
class Node:
    """A node that is alive: its name and address, CPUs and GPUs."""

    name: str
    address: str
    head: bool
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Room:
    """What a cluster has: its nodes, and whether an autoscaler may start more; Ray's API does not give their number."""

    nodes: tuple[Node, ...]
    grows: bool

    @property
    def cpus(self) -> float:
        """CPUs of all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)


@dataclass(frozen=True)
class Job:
    """A job as Ray's table has it.

    Attributes:
        id: Ray's submission id.
        state: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        entrypoint: its command.
        began, ended: Unix seconds; None before.
        exit_code: of its driver; None before.
        message: Ray's, about how it ended.
        about: its metadata; of a job of ours with :data:`RUN` and the like.
    """

    id: str
    state: State
    entrypoint: str
    began: float | None
    ended: float | None
    exit_code: int | None
    message: str
    about: Mapping[str, str]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in OVER

    @property
    def wait_s(self) -> float:
        """Seconds between SIGTERM and SIGKILL when it is stopped; 3 are Ray's own."""
        return float(self.about.get(WAIT, 3))

    @property
    def run(self) -> str | None:
        """Name of its run or search; None of a job that somebody else's command submitted."""
        return self.about.get(RUN)


def address_of(given: str | None) -> str:
    """Address of the job server: the one given, else RAY_API_SERVER_ADDRESS, RAY_ADDRESS (if it is one), or
    :data:`LOCAL`.
    """
    known = os.environ.get("RAY_ADDRESS", "")
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS") or (known if known.startswith("http") else "")
    address = (address or LOCAL).rstrip("/")
    return address if "://" in address else f"http://{address}"


def token() -> tuple[str | None, str]:
    """Ray's token, as Ray finds it, and where it came from; None where there is none."""
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given.strip(), "RAY_AUTH_TOKEN"
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
    try:
        return path.read_text(encoding="utf-8").strip() or None, str(path)
    except OSError:
        return None, str(path)


def make_token_private() -> None:
    """Take the token's file from everybody else's eyes: Ray writes it as any file."""
    path = Path(token()[1]).expanduser()
    if path.is_file() and path.stat().st_mode & 0o077 and path.stat().st_uid == os.geteuid():
        path.chmod(0o600)


class Cluster:
    """A cluster's job server.

    Args:
        address: of its dashboard, such as ``http://127.0.0.1:8265``; see :func:`address_of`.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address_of(address)

    @classmethod
    def reach(cls, address: str | None = None, insecure: bool = False) -> Self:
        """A cluster that answers and takes our token.

        Args:
            address: see :func:`address_of`.
            insecure: also one that wants none.

        Raises:
            ClusterError: it does not answer, refuses the token, or runs what anybody sends it.
        """
        cluster = cls(address)
        if not cluster.guarded and not insecure:
            raise ClusterError(
                f"the cluster at {cluster.address} wants no token, so whoever reaches that port runs any code there. "
                "Start it with RAY_AUTH_MODE=token in the environment and one token for all nodes and for this machine "
                "(ray get-auth-token --generate). To use it as it is: --insecure"
            )
        cluster.version  # noqa: B018  (asks, with the token)
        return cluster

    @cached_property
    def guarded(self) -> bool:
        """Whether it refuses those without a token."""
        import requests

        try:
            answer = requests.get(f"{self.address}/api/version", timeout=_TIMEOUT_S, allow_redirects=False)
        except requests.RequestException as error:
            raise ClusterError(self._silent(error)) from None
        return answer.status_code in (401, 403)

    @cached_property
    def version(self) -> str:
        """Its Ray's."""
        return str(self._get("/api/version")["ray_version"])

    @cached_property
    def client(self) -> JobSubmissionClient:
        """Ray's own client, with the token where the cluster wants one."""
        # Ray's client lets these win over the address that it is given
        hidden = {name: os.environ.pop(name, None) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
        try:
            from ray.job_submission import JobSubmissionClient

            for chatty in ("", "._private", ".dashboard.modules.dashboard_sdk", ".dashboard.modules.job.sdk"):
                logging.getLogger(f"ray{chatty}").setLevel(logging.ERROR)
            return JobSubmissionClient(self.address, headers=self._headers)
        except Exception as error:
            raise ClusterError(self._silent(error)) from None
        finally:
            os.environ.update({name: value for name, value in hidden.items() if value is not None})

    def room(self) -> Room:
        """What it has now."""
        found = []
        for summary in self._get("/nodes?view=summary")["data"]["summary"]:
            raylet = summary["raylet"]
            if raylet.get("state") == "ALIVE":
                total = raylet.get("resourcesTotal", {})
                what = (bool(raylet.get("isHeadNode")), total.get("CPU", 0.0), total.get("GPU", 0.0))
                found.append(Node(summary.get("hostname") or "?", raylet["nodeManagerAddress"], *what))
        status = self._get("/api/cluster_status")["data"].get("clusterStatus") or {}
        report = status.get("autoscalerReport") or {}
        # without an autoscaler every node is a type of its own, called after its id
        types = report.get("nodeTypeMapping") or {}
        grows = any(kind != f"node_{node}" for node, kind in types.items())
        return Room(tuple(sorted(found, key=lambda node: not node.head)), grows)

    def jobs(self) -> list[Job]:
        """All jobs that were submitted, the newest first."""
        listed = [_job(details) for details in self._get("/api/jobs/") if details["type"] == "SUBMISSION"]
        return sorted(listed, key=lambda job: job.began or time.time(), reverse=True)

    def find(self, name: str) -> Job:
        """The newest job of the run called ``name``, or the one with that submission id.

        Raises:
            ValueError: there is none.
        """
        jobs = self.jobs()
        found = [job for job in jobs if job.run == name] or [job for job in jobs if job.id == name]
        if not found:
            raise ValueError(
                f"there is no job {name!r} at {self.address}; see: orchestrator jobs list --address {self.address}"
            )
        return found[0]

    def logs(self, id: str) -> str:
        """All that a job said so far."""
        return str(self._get(f"/api/jobs/{id}/logs")["logs"])

    def find_id(self, id: str) -> Job:
        """The job with that submission id."""
        return _job(self._get(f"/api/jobs/{id}"))

    def ended(self, id: str, wait_s: float) -> Job:
        """The job once it is over, or as it stands after ``wait_s``."""
        until = time.monotonic() + wait_s
        while not (job := self.find_id(id)).over and time.monotonic() < until:
            time.sleep(0.2)
        return job

    def stop(self, id: str) -> None:
        """Ask a job to stop: its driver gets SIGTERM."""
        self.client.stop_job(id)

    @cached_property
    def _headers(self) -> dict[str, str]:
        """The token, where it is wanted; passed by us, since Ray's client leaves it out unless RAY_AUTH_MODE is set."""
        if not self.guarded:
            return {}
        make_token_private()
        known, _ = token()
        return {"Authorization": f"Bearer {known}"} if known else {}

    def _get(self, path: str) -> Any:
        import requests

        known, origin = token()
        try:
            answer = requests.get(self.address + path, headers=self._headers, timeout=_TIMEOUT_S, allow_redirects=False)
            if answer.status_code in (401, 403):
                raise ClusterError(
                    f"the cluster at {self.address} wants a token, and "
                    + (f"refuses the one from {origin}" if known else f"there is none in {origin}")
                    + f". Copy the head node's {TOKEN_FILE} here, readable by you alone, or point RAY_AUTH_TOKEN_PATH "
                    "at a copy (there: ray get-auth-token)"
                )
            answer.raise_for_status()
            return answer.json()
        except (requests.RequestException, ValueError) as error:
            raise ClusterError(self._silent(error)) from None

    def _silent(self, error: BaseException) -> str:
        return (
            f"there is no Ray job server at {self.address} ({type(error).__name__}: {str(error)[:200]}). Give "
            "the address of the head node's dashboard with --address or RAY_API_SERVER_ADDRESS; where it listens on "
            "loopback alone, as it should: ssh -N -L 8265:127.0.0.1:8265 HEAD"
        )


def _job(details: Mapping[str, Any]) -> Job:
    def seconds(value: int | None) -> float | None:
        return value / 1000 if value else None

    return Job(
        details["submission_id"],
        details["status"],
        details["entrypoint"],
        seconds(details.get("start_time")),
        seconds(details.get("end_time")),
        details.get("driver_exit_code"),
        details.get("message") or "",
        details.get("metadata") or {},
    )

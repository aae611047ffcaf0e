"""What is looked at before a job is sent: the spec, whether the cluster has room, and the files that the spec names."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import specfile
from jobs.base import Spec
from jobs.paths import paths
from jobs.spec import JobSpec
from jobs.specfile.yaml import parse
from jobs.urls import redact
from orchestrator.cluster.client import Room
from orchestrator.cluster.shipping import IGNORE, Shipment
from orchestrator.execution import capacity
from orchestrator.tracking.uri import check_uri

if TYPE_CHECKING:
    from typing import Never


@dataclass(frozen=True)
class Kind:
    """A kind of spec that can be submitted.

    Attributes:
        name: ``job`` or ``search``.
        spec: its class.
        command: words that run it there.
        naming: the option of ``command`` that names what runs, or resumes it.
        job: the job in a spec, or the job that a search varies, once all is checked; raises ``SpecError``.
    """

    name: str
    spec: type[Spec]
    command: tuple[str, ...]
    naming: str
    job: Callable[[Any], JobSpec]


@dataclass(frozen=True)
class Asked:
    """What shall be submitted, read and checked; paths are relative to the working directory.

    Attributes:
        given: the path of the spec as it was given, from the folder of the command.
    """

    kind: Kind
    path: str
    overrides: tuple[str, ...]
    spec: Spec
    job: JobSpec
    given: str

    @property
    def digest(self) -> str:
        """SHA-256 of the spec with its overrides, and of the job that a search varies, which has a file of its own."""
        job = "" if self.job is self.spec else specfile.dump(self.job)
        return hashlib.sha256(f"{specfile.dump(self.spec)}{job}".encode()).hexdigest()

    @property
    def need(self) -> str:
        """What it takes, for people."""
        need, workers = self.job.resources, self.job.sizes[-1]
        gpu = {True: ", 1 GPU", False: "", "auto": ", a GPU where there is one"}[need.use_gpu]
        return f"{workers} x {need.cpus_per_worker:g} CPU{gpu}{'' if self.job is self.spec else ' a trial'}"

    def entrypoint(self, run: str) -> str:
        """The command that runs it on the cluster."""
        changes = [word for change in self.overrides for word in ("-s", change)]
        return shlex.join(
            ["python", "-m", "orchestrator", *self.kind.command, self.path, *changes, self.kind.naming, run]
        )

    def again(self, id: str, options: Sequence[str] = ()) -> str:
        """The command that submits it again, with the same options and under the same id."""
        changes = [word for change in self.overrides for word in ("-s", change)]
        return shlex.join(["orchestrator", "submit", self.given, *changes, *options, "--id", id])


def read(path: Path, overrides: Sequence[str], folder: Path, kinds: Sequence[Kind]) -> Asked:
    """Read and check a spec as it will be read there: from the working directory.

    Raises:
        jobs.specfile.SpecError: it is wrong.
        ValueError: it lies outside of the working directory, or would show a password.
    """
    folder = folder.resolve()
    full = path.absolute()
    if not full.resolve().is_relative_to(folder):
        raise ValueError(
            f"{path} lies outside of {folder}, which is all that is sent; give a folder that holds it as "
            "--working-dir, or copy it there"
        )
    for change in overrides:
        if redact(change) != change:
            raise ValueError(
                f"-s {redact(change)} was given with a password, and Ray shows a job's command to everybody who sees "
                "its table of jobs; put it into the environment that the cluster is started in"
            )
    inside = str(full.resolve().relative_to(folder))
    with contextlib.chdir(folder):
        kind = _kind(Path(inside), kinds)
        spec = specfile.read(inside, kind.spec, overrides)
        job = kind.job(spec)
    if job.tracking.uri is not None:
        check_uri(job.tracking.uri)
    return Asked(kind, inside, tuple(overrides), spec, job, str(path))


def _kind(path: Path, kinds: Sequence[Kind]) -> Kind:
    """The kind whose fields a file has the most of."""
    try:
        tree, _ = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError):
        return kinds[0]  # reading it as one says what is wrong
    value = getattr(tree, "value", None)
    names = set(value) if isinstance(value, dict) else set()
    return max(kinds, key=lambda kind: len(names & set(kind.spec.model_fields)))


def check_room(job: JobSpec, room: Room) -> list[str]:
    """Check that the cluster can hold a job; returns remarks.

    Raises:
        ValueError: it never can; the arithmetic is in the message.
    """
    nodes = tuple(capacity.Node(node.name, node.cpus, node.gpus) for node in room.nodes)
    found = capacity.fit(job, capacity.Cluster(nodes, f"in the cluster of {len(nodes)} nodes", grows=room.grows))
    if found.problem is not None:
        raise ValueError(found.problem)
    return [found.remark] if found.remark else []


def check_paths(asked: Asked, shipment: Shipment) -> list[str]:
    """Check that the files that a spec names will exist on the cluster; returns remarks.

    Raises:
        ValueError: some are missing, or are left out of what is sent.
    """
    remarks = []
    if not shipment.holds(asked.path):
        _left_out("the spec", asked.path, shipment)
    for name, given in dict.fromkeys(
        (found.name, found.value) for spec in (asked.job, asked.spec) for found in paths(spec)
    ):
        if "://" in given:
            continue
        full = os.path.join(shipment.folder, os.path.expanduser(given))
        inside = os.path.relpath(full, shipment.folder)
        if not os.path.isabs(given) and inside.startswith(".."):
            raise ValueError(
                f"{name}: {given} lies outside of the working directory {shipment.folder}, so it will not be there; "
                "give a path that all nodes see, beginning with /, or the address of a bucket"
            )
        if os.path.isabs(given):
            remarks.append(f"{name} is {given}, which all nodes must see: it is not sent")
        elif name.endswith("checkpoint.storage"):
            remarks.append(
                f"{name} is {given}, in the job's copy of the working directory, which is deleted after it; give a "
                "path that all nodes see, beginning with /, or the address of a bucket"
            )
        elif not (os.path.exists(full) or glob.glob(full, recursive=True)):
            if not (name.endswith("data.root") and getattr(asked.job.data, "download", False)):
                raise ValueError(
                    f"{name}: {given} does not exist in the working directory {shipment.folder}, so it will not exist "
                    "on the cluster; correct it, or give a path that all nodes see, beginning with /"
                )
        elif os.path.exists(full) and not shipment.holds(inside):
            _left_out(name, given, shipment)
    return remarks


def _left_out(name: str, path: str, shipment: Shipment) -> Never:
    raise ValueError(
        f"{name}: {path} is not sent, because an ignore file of {shipment.folder} ({IGNORE}, .gitignore) names "
        "it; take it out of there, or give a path that all nodes see"
    )

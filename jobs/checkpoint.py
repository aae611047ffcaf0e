"""Everything a run is at a step, as safetensors and JSON: no pickle, and half a checkpoint never passes for a whole.

A checkpoint is a folder ``step_000000123`` with ``tensors.safetensors`` and ``state.json``. The JSON is written last
and holds the checksums of both, so a checkpoint that is incomplete or damaged is detected when it is read. Any fsspec
URL serves as a store: a local folder, ``s3://``, ``gs://``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import fsspec
import torch
from safetensors.torch import load, save

from jobs.disk import FULL, DiskFullError
from jobs.urls import make_folder

log = logging.getLogger(__name__)

_TENSORS, _STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class State:
    """A run after ``step`` updates: a tree of dicts, lists, JSON scalars and CPU tensors."""

    step: int
    tree: dict[str, Any]


def snapshot(tree: Any) -> Any:
    """The tree with every tensor copied to the CPU, contiguous, so that training continues while it is written."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(tree, dict):
        return {name: snapshot(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [snapshot(value) for value in tree]
    return tree


class Store:
    """The checkpoints of one run under an fsspec URL; writes in the background, one at a time.

    Args:
        url: folder of the run's checkpoints.
        keep: how many stay: the one written last and those before it.
    """

    def __init__(self, url: str, keep: int = 2) -> None:
        self.fs, self.path = fsspec.core.url_to_fs(url)
        self.keep = keep
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def save(self, state: State) -> None:
        """Start writing ``state``; waits for the write before it, whose error it raises."""
        self.wait()
        self._writing = self._pool.submit(self._write, state)

    def wait(self) -> None:
        """Wait until what was saved is stored.

        Raises:
            jobs.disk.DiskFullError: the disk is full.
            OSError: it could not be stored.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def steps(self) -> list[int]:
        """Steps of the stored checkpoints, sound or not, ascending."""
        try:
            names = [path.rstrip("/").rsplit("/", 1)[-1] for path in self.fs.ls(self.path, detail=False, refresh=True)]
        except FileNotFoundError:
            return []
        return sorted(int(name[5:]) for name in names if name.startswith("step_") and name[5:].isdigit())

    def newest(self, passed_over: Callable[[str], None] = log.warning) -> State | None:
        """The newest sound checkpoint; None if there is none.

        Args:
            passed_over: called with what is wrong with each newer one.
        """
        for step in reversed(self.steps()):
            try:
                return self.read(step)
            except FileNotFoundError:
                passed_over(f"checkpoint {self._folder(step)} is incomplete: its writer was killed")
            except (OSError, ValueError, KeyError) as error:
                passed_over(f"checkpoint {self._folder(step)} is damaged: {error}")
        return None

    def read(self, step: int) -> State:
        """One checkpoint.

        Raises:
            OSError: it is not there.
            ValueError: it is not sound.
        """
        manifest = json.loads(self.fs.cat_file(f"{self._folder(step)}/{_STATE}"))
        body = manifest["body"]
        if hashlib.sha256(body.encode()).hexdigest() != manifest["sha256"]:
            raise ValueError(f"{_STATE} does not match its checksum")
        content = json.loads(body)
        data = self.fs.cat_file(f"{self._folder(step)}/{_TENSORS}")
        if hashlib.sha256(data).hexdigest() != content["tensors_sha256"]:
            raise ValueError(f"{_TENSORS} does not match its checksum")
        return State(step, _unpack(content["tree"], load(data)))

    def _folder(self, step: int) -> str:
        return f"{self.path}/step_{step:09d}"

    def _write(self, state: State) -> None:
        folder = self._folder(state.step)
        try:
            self._put(folder, state)
        except OSError as error:
            if error.errno not in FULL:
                raise
            with contextlib.suppress(OSError):  # the little that is left is for the journal
                self.fs.rm(folder, recursive=True)
            raise DiskFullError(error.errno, error.strerror, folder) from error

    def _put(self, folder: str, state: State) -> None:
        tensors: dict[str, torch.Tensor] = {}
        tree = _pack(state.tree, "", tensors)
        data = save(tensors)
        body = json.dumps({"tree": tree, "tensors_sha256": hashlib.sha256(data).hexdigest()})
        manifest = json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": body})
        self.fs.invalidate_cache()  # another process may have written here
        if self.fs.exists(folder):
            self.fs.rm(folder, recursive=True)
        make_folder(self.fs, folder)
        self.fs.pipe_file(f"{folder}/{_TENSORS}", data)
        self.fs.pipe_file(f"{folder}/{_STATE}", manifest.encode())
        stored = self.steps()
        stay = [step for step in stored if step <= state.step][-self.keep :]  # later ones are of an abandoned attempt
        for step in stored:
            if step not in stay:
                self.fs.rm(self._folder(step), recursive=True)


def _pack(node: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The node as JSON; its tensors go to ``tensors`` under their paths."""
    if isinstance(node, torch.Tensor):
        tensors[path] = node
        return {"$tensor": path}
    if isinstance(node, dict):
        return {"$dict": [[key, _pack(value, f"{path}/{key}", tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return [_pack(value, f"{path}/{position}", tensors) for position, value in enumerate(node)]
    return node


def _unpack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, dict):
        if "$tensor" in node:
            return tensors[node["$tensor"]]
        return {key: _unpack(value, tensors) for key, value in node["$dict"]}
    if isinstance(node, list):
        return [_unpack(value, tensors) for value in node]
    return node

"""Compiled networks, one job after the other in a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from jobs.place import Place
    from jobs.spec import JobSpec

_SHAPING = ("data", "model", "batch_size", "accumulation", "precision", "channels_last", "deterministic", "resources")
_newest: list[Any] = []


def compiled(network: nn.Module, spec: JobSpec, place: Place) -> nn.Module:
    """The network, which ``torch.compile`` compiles when it is first called, where the job asks for that.

    Graphs are those of a process that has compiled nothing before: what the compiler knows of the networks and shapes
    of another job would change them, so it is reset. A job that differs from the one before only in what its network
    never meets (learning rate, smoothing, seed) uses the graphs of that one again, as they are its own.

    Args:
        network: not yet under DDP, whose ``forward`` the compiler does not enter; it cuts the graph at the bounds of
            DDP's buckets, so that gradients travel during the backward pass.
        spec: of the job, with everything decided.
        place: of this process.
    """
    global _newest
    if not spec.compile:
        return network
    tricks = [trick.kind for trick in (*spec.augment, *spec.batch)]
    job = [*(getattr(spec, name) for name in _SHAPING), spec.sam is None, tricks, place]
    if job != _newest:
        torch.compiler.reset()
        _newest = job
    return torch.compile(network, dynamic=False)  # type: ignore[return-value]

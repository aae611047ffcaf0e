"""Arithmetic and memory layout of a run: what ``auto`` means here, autocast, loss scaling."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import torch

from jobs.home import home
from jobs.spec import JobSpec

if TYPE_CHECKING:
    from jobs.checkpoint import State


class HasPrecision(Protocol):
    """What names an arithmetic: fp32, bf16, fp16 or fp64."""

    @property
    def precision(self) -> str:
        """Its name."""
        ...


_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(spec: JobSpec, device: torch.device, everywhere: Callable[[bool], bool] = bool) -> JobSpec:
    """The spec with every ``auto`` of the arithmetic replaced by what it is on this device.

    ``precision``: bf16 where the processor of every rank computes in it (CUDA, or a CPU with AMX or AVX-512 BF16; else
    fp32), of which ``everywhere`` asks the others.
    ``channels_last``: NHWC, which is the faster layout for convolutions in all but double precision.
    ``compile``: no; who wants to know whether it pays has to try (``orchestrator.execution.compiling``).
    """
    changes: dict[str, object] = {}
    if spec.precision == "auto":
        changes["precision"] = "bf16" if everywhere(_has_bf16(device)) else "fp32"
    if spec.channels_last == "auto":
        changes["channels_last"] = spec.precision != "fp64"
    if spec.compile == "auto":
        changes["compile"] = False
    return spec.model_copy(update=changes)


def settled(start: State | None) -> dict[str, Any]:
    """What was chosen for the first part of a run, which ``start`` is of, and holds for the rest: field -> value."""
    return {name: start.tree["spec"][name] for name in ("precision", "channels_last")} if start else {}


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def dtype(spec: JobSpec) -> torch.dtype:
    """The dtype of weights and inputs: float64 for fp64, else float32 (autocast does the rest)."""
    return torch.float64 if spec.precision == "fp64" else torch.float32


def autocast(spec: HasPrecision, device: torch.device) -> torch.autocast:
    """The autocast context of the forward pass; it does nothing for fp32 and fp64."""
    return torch.autocast(device.type, _AUTOCAST.get(spec.precision), enabled=spec.precision in _AUTOCAST)


def scaler(spec: JobSpec, device: torch.device) -> torch.amp.GradScaler:
    """Dynamic loss scaling for fp16 (Micikevicius et al., arXiv 1710.03740); it passes everything through otherwise."""
    return torch.amp.GradScaler(device.type, enabled=spec.precision == "fp16")


def step(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer, skipped: torch.Tensor) -> None:
    """One optimizer step under ``scaler``; ``skipped``, int64 on the device, counts those left out by an overflow."""
    scaler.step(optimizer)
    if scaler.is_enabled():  # private, since all that is public makes the host wait for the device
        for overflowed in scaler._found_inf_per_device(optimizer).values():
            skipped += overflowed > 0
    scaler.update()


@contextlib.contextmanager
def backends(spec: JobSpec, device: torch.device) -> Iterator[None]:
    """Set torch's global switches for the run and put them back afterwards; a GPU's peak of memory begins anew.

    Beside a GPU the process computes little, and threads of OpenMP that wait for each other take the cores of the
    loader processes (docs/log.md); so it has one.

    ``deterministic`` on CUDA needs ``CUBLAS_WORKSPACE_CONFIG``, which torch and cuBLAS read when the process first
    multiplies: that may be for an earlier job, so every one on a GPU sets it. It costs 32 MiB of a GPU at most.
    """
    home()  # before torch's compiler is imported, which reads where its code is kept
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    threads = torch.get_num_threads()
    if device.type == "cuda":
        torch.set_num_threads(1)
        torch.cuda.reset_peak_memory_stats(device)
    _deterministic(spec.deterministic and device.type == "cuda")
    torch.backends.cudnn.benchmark = not spec.deterministic
    try:
        yield
    finally:
        _deterministic(before[0])
        torch.backends.cudnn.benchmark = before[1]
        torch.set_num_threads(threads)


def _deterministic(wanted: bool) -> None:
    if wanted != torch.are_deterministic_algorithms_enabled():  # the call imports torch's compiler, which takes seconds
        torch.use_deterministic_algorithms(wanted)

"""A CUDA device that is none: tensors that say they are on ``cuda:0``, whose numbers are on the CPU.

Whatever the loop does with a GPU runs on it in earnest, branches for CUDA included. What a GPU would refuse raises here
(an operation on tensors of two devices), and what it would make the host wait for is noted with the line that asked:
numbers that are read, copies that block or that begin in memory that is not pinned. Autocast, the kernels and their
rounding are those of a CPU; two streams, two GPUs and processes that feed are not pretended.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator
from typing import Any, Self
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
aten: Any = torch.ops.aten
READS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.equal.default,
    aten.repeat_interleave.Tensor,
}
"""Operations whose result the host has to know."""
SMALL_BYTES = 2**16
"""What is copied from memory that is not pinned without waiting."""


class Pretended(torch.Tensor):
    """A tensor of the pretended device; to torch's C++ it is on ``meta``, so that everything comes to the mode."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Self:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device="meta"
        )
        made.held = held
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Pretended:
        made = Pretended(self.held.clone()).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            made._is_param = True
        memo[id(self)] = made
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} outside of the mode")


class Device(TorchDispatchMode):
    """The device; ``waits`` are ``file:line code`` of what the host waited for, ``peak`` bytes of memory it has had."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.peak = 2**30  # of an earlier run

    def forget(self, device: torch.device) -> None:
        self.peak = 0

    def note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if "/jobs/" in frame.filename]
        frames = [frame for frame in frames if "/tests/" not in frame.filename]
        where = frames[-1] if frames else None
        self.waits.append(f"{where.filename.rpartition('/jobs/')[2]}:{where.lineno} {where.line}" if where else what)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        flat = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
        ours = [each for each in flat if isinstance(each, Pretended)]
        host = [each for each in flat if not isinstance(each, Pretended)]
        wanted, pinned = kwargs.get("device"), kwargs.pop("pin_memory", None)
        if wanted is not None:
            wanted = CUDA if ours and torch.device(wanted).type == "meta" else torch.device(wanted)
            kwargs["device"] = torch.device("cpu")
        self._judge(func, args, kwargs, ours, host, wanted)
        result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if func is aten.copy_.default:
            return args[0]
        known = {id(each.held): each for each in ours}
        there = bool(ours) if wanted is None else wanted.type == "cuda"

        def wrap(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if there:
                return known.get(id(value)) if id(value) in known else Pretended(value)
            if pinned:
                value.pinned = True  # type: ignore[attr-defined]
            return value

        return tree_map(wrap, result)

    def _judge(self, func: Any, args: Any, kwargs: Any, ours: Any, host: Any, wanted: Any) -> None:
        if func is aten.copy_.default:
            if bool(ours) and bool(host):
                self._copied(host[0], kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        elif func is aten._to_copy.default and wanted is not None:
            if (wanted.type == "cuda") != bool(ours):
                self._copied(host[0] if host else None, kwargs.get("non_blocking"))
        elif func is aten._foreach_copy_.default or not ours:
            return
        elif func in READS:
            if kwargs.get("output_size") is None:  # repeat_interleave that knows how much there will be asks nothing
                self.note(str(func))
        elif func in (aten.index.Tensor, aten.index_put_.default):
            places = [each for each in args[1] if each is not None]
            if any(each.dtype in (torch.bool, torch.uint8) or not isinstance(each, Pretended) for each in places):
                self.note(str(func))
        elif any(each.ndim for each in host):
            shapes = [(type(each).__name__, tuple(each.shape)) for each in (*ours, *host)]
            raise RuntimeError(f"{func}: tensors on cuda and on the CPU: {shapes}")

    def _copied(self, host: torch.Tensor | None, asynchronous: Any) -> None:
        if not asynchronous or host is None:
            self.note("copy")
        elif not getattr(host if host._base is None else host._base, "pinned", False) and host.nbytes > SMALL_BYTES:
            self.note("copy from memory that is not pinned")


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


class _Event:
    def __init__(self, **given: Any) -> None:
        pass

    def record(self, stream: Any = None) -> None:
        pass

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


class _Stream:
    def __init__(self, device: Any = None) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        pass


class _Generator(torch.Generator):
    def __new__(cls, device: Any = "cpu") -> Self:
        return super().__new__(cls)


def _pin(self: torch.Tensor) -> torch.Tensor:
    copy = self.clone()
    copy.pinned = True  # type: ignore[attr-defined]
    return copy


@contextlib.contextmanager
def pretended() -> Iterator[Device]:
    """The device, while the context lasts."""
    device = Device()
    parts: list[tuple[Any, str, Any]] = [
        (torch.cuda, "_lazy_init", lambda: None),
        (torch.cuda, "is_available", lambda: True),
        (torch.cuda, "current_device", lambda: 0),
        (torch.cuda, "is_current_stream_capturing", lambda: False),
        (torch.cuda, "mem_get_info", lambda device: (2**33, 2**33)),
        (torch.cuda, "max_memory_allocated", lambda given: device.peak),
        (torch.cuda, "reset_peak_memory_stats", device.forget),
        (torch.cuda, "get_device_name", lambda device: "pretended"),
        (torch.cuda, "manual_seed", lambda seed: None),
        (torch.cuda, "Event", _Event),
        (torch.cuda, "Stream", _Stream),
        (torch.cuda, "stream", lambda stream: contextlib.nullcontext()),
        (torch.cuda, "current_stream", _Stream),
        (torch.Tensor, "record_stream", lambda self, stream: None),
        (torch.backends.cudnn, "version", lambda: 0),
        (torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda self: None),
        (torch, "Generator", _Generator),
        (torch.Tensor, "pin_memory", _pin),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ))
        for owner, name, value in parts:
            stack.enter_context(mock.patch.object(owner, name, value))
        future = torch.__future__
        stack.callback(future.set_overwrite_module_params_on_conversion, False)
        future.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) comes to the mode too
        stack.enter_context(device)
        yield device

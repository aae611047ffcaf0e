"""What the machine is and what it is doing, as seen by the process that asks."""

from __future__ import annotations

import platform
import resource

import psutil
import torch

from jobs.place import Place


def device(place: Place) -> str:
    """The device by name."""
    if place.device.type == "cuda":
        return torch.cuda.get_device_name(place.device)
    kernels = torch.backends.cpu.get_cpu_capability()
    return f"cpu ({platform.machine()}, {kernels}, {torch.get_num_threads()} threads a worker)"


def sample(place: Place) -> dict[str, float]:
    """Peak memory in MB, of the run on a GPU or else of this process, and the load of its machine, by metric name."""
    memory = psutil.virtual_memory()
    values = {
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "system/cpu_percent": psutil.cpu_percent(),
        "system/memory_used_mb": (memory.total - memory.available) / 2**20,
    }
    if place.device.type == "cuda":
        values["peak_memory_mb"] = torch.cuda.max_memory_allocated(place.device) / 2**20
    return values

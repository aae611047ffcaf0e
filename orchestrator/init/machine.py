"""What this machine has."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from jobs.allowed import cpus, memory
from jobs.home import home
from jobs.words import byte_size

_DISK_SHARE, _MEMORY_SHARE = 0.8, 0.8
_BUSY = 0.25
"""Share of the CPUs in use from which on a machine is called busy."""


@dataclass(frozen=True)
class Machine:
    """What training can use here.

    Attributes:
        cpus: number of logical CPUs, see :func:`jobs.allowed.cpus`.
        gpus: names of the CUDA devices.
        gpu_bytes: memory of the smallest of them.
        load: mean number of processes that were running during the last minute.
        disk_bytes: free where ORCHESTRATOR_HOME is; None if that is not known.
        memory_bytes: that may be used, see :func:`jobs.allowed.memory`; None if that is not known.
    """

    cpus: int
    gpus: tuple[str, ...] = ()
    gpu_bytes: int = 0
    load: float = 0.0
    disk_bytes: int | None = None
    memory_bytes: int | None = None

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        devices = [torch.cuda.get_device_properties(number) for number in range(count)]
        return cls(
            cpus(),
            tuple(device.name for device in devices),
            min((device.total_memory for device in devices), default=0),
            os.getloadavg()[0],
            shutil.disk_usage(home()).free,
            memory(),
        )

    def lacks_disk(self, size: float) -> bool:
        """Whether so many bytes would take most of what is free."""
        return self.disk_bytes is not None and size > _DISK_SHARE * self.disk_bytes

    def trials(self, worker: int) -> int:
        """Trials of one worker at a time: one a GPU, or one a CPU where there is memory for the workers.

        Args:
            worker: bytes of memory that one takes on a CPU.
        """
        if self.gpus or self.memory_bytes is None:
            return len(self.gpus) or self.cpus
        return max(1, min(self.cpus, int(_MEMORY_SHARE * self.memory_bytes) // worker))

    @property
    def timed(self) -> str:
        """How a speed was found that was timed here, in words: a busy machine is slower than an idle one."""
        if self.load < _BUSY * self.cpus:
            return "timed"
        used = min(self.load, self.cpus)
        return f"timed while other programs used {used:.1f} of {self.cpus} CPUs (an idle machine is faster)"

    def __str__(self) -> str:
        """For people."""
        cpus = f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"
        if not self.gpus:
            return f"{cpus}, no GPU"
        return f"{cpus}, {len(self.gpus)} x {self.gpus[0]} ({byte_size(self.gpu_bytes)})"

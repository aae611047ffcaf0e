"""What this machine has."""

from __future__ import annotations

import os
from dataclasses import dataclass

from jobs.words import byte_size


@dataclass(frozen=True)
class Machine:
    """What training can use here.

    Attributes:
        cpus: how many.
        gpus: names of the CUDA devices.
        gpu_bytes: memory of the smallest of them.
    """

    cpus: int
    gpus: tuple[str, ...] = ()
    gpu_bytes: int = 0

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        devices = [torch.cuda.get_device_properties(number) for number in range(count)]
        return cls(
            os.cpu_count() or 1,
            tuple(device.name for device in devices),
            min((device.total_memory for device in devices), default=0),
        )

    def __str__(self) -> str:
        """For people."""
        cpus = f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"
        if not self.gpus:
            return f"{cpus}, no GPU"
        return f"{cpus}, {len(self.gpus)} x {self.gpus[0]} ({byte_size(self.gpu_bytes)})"

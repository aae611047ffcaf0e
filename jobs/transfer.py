"""From the CPU's memory to a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def put(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``values`` on the device; the CPU does not wait for the copy."""
    if values.device == device:
        return values
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)

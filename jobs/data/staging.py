"""Where batches are put together in host memory, and how they get to the device."""

from __future__ import annotations

import math

import torch


class Staging:
    """Host memory for batches on their way to a device. For a GPU there are two pieces, of which one is filled while
    the other is copied, on a stream of its own, beside what the GPU computes."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.cuda = device, device.type == "cuda"
        self._pieces = [torch.empty(0, dtype=torch.uint8)] * 2
        self._turn = 0
        if self.cuda:
            self._stream = torch.cuda.Stream(device)
            self._copied = [torch.cuda.Event(), torch.cuda.Event()]

    def room(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Memory for a batch; what it held before is gone."""
        if self.cuda:
            self._turn = 1 - self._turn
            self._copied[self._turn].synchronize()  # two batches ago: it is over
        size = math.prod(shape)
        if self._pieces[self._turn].numel() < size:
            self._pieces[self._turn] = torch.empty(size, dtype=torch.uint8, pin_memory=self.cuda)
        return self._pieces[self._turn][:size].view(shape)

    def sent(self, host: torch.Tensor) -> torch.Tensor:
        """The batch on the device, for what comes next on its current stream."""
        if not self.cuda:
            return host
        with torch.cuda.stream(self._stream):
            images = host.to(self.device, non_blocking=True)
            self._copied[self._turn].record()
        here = torch.cuda.current_stream(self.device)
        here.wait_stream(self._stream)
        images.record_stream(here)
        return images

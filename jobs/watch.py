"""Reads the losses of a running epoch without making the device wait."""

from __future__ import annotations

import torch


class Watch:
    """At every look, takes in what the last look asked for and asks for what came since.

    On a GPU the copy runs behind the kernels and is read once it has arrived; on a CPU it is there at once.
    """

    def __init__(self, losses: torch.Tensor, done: int = 0) -> None:
        self.losses = losses
        self.finite = True
        self.latest = float("nan")
        self._seen = done
        self._host: torch.Tensor | None = None
        self._arrived: torch.cuda.Event | None = None

    def look(self, done: int) -> None:
        """Update ``finite`` and ``latest`` (mean loss of the newest stretch); ``done`` updates of the epoch
        are done."""
        if self._host is not None and (self._arrived is None or self._arrived.query()):
            self.finite = self.finite and bool(self._host.isfinite().all())
            self.latest = float(self._host.mean())
            self._host = None
        done = min(done, len(self.losses))
        if self._host is None and done > self._seen:
            fresh = self.losses[self._seen : done]
            if fresh.device.type == "cuda":
                self._host = torch.empty(len(fresh), dtype=fresh.dtype, pin_memory=True)
                self._host.copy_(fresh, non_blocking=True)
                self._arrived = torch.cuda.Event()
                self._arrived.record()
            else:
                self._host = fresh.clone()
            self._seen = done

"""The average of weights that a job asks for, if any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.ema import Average
from jobs.swa import StochasticAverage

if TYPE_CHECKING:
    from torch import nn

    from jobs.spec import JobSpec


def average_of(spec: JobSpec, network: nn.Module, per_epoch: int) -> Average | StochasticAverage | None:
    """``ema`` or ``swa`` of ``network``, for epochs of ``per_epoch`` updates; None where the job has neither."""
    if spec.ema is not None:
        return Average(spec.ema, network, per_epoch)
    if spec.swa is not None:
        return StochasticAverage(spec.swa, network, spec.epochs, per_epoch)
    return None

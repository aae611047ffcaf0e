"""What is minimised: the loss on the labels and, where there is a teacher, the distillation term beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from jobs.batch import At
from jobs.data.sets import Data

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.spec import JobSpec


class Objective:
    """``objective(logits, x, y, at)``: the terms of a batch, the total first.

    Args:
        spec: the job.
        data: what it is trained on; gives the weights of the classes.
        assets: ``teacher``: its folder, where the job distils; ``logits``: the ``LogitCache`` of what
            teachers answered before, if there is one.
        device: of the run.
        prepare: brings the teacher to the run's device, dtype and layout.

    Attributes:
        names: of the terms: ``loss``, and with a teacher ``loss_hard`` and ``loss_distillation``, unweighted.
    """

    def __init__(
        self,
        spec: JobSpec,
        data: Data,
        assets: Mapping[str, Any],
        device: torch.device,
        prepare: Callable[[nn.Module], nn.Module],
    ) -> None:
        self.loss, self.weight = spec.loss, None
        if data.class_weights is not None:
            self.weight = torch.tensor(data.class_weights, dtype=torch.float32, device=device)
        self.distillation = None
        if spec.distillation is not None:
            from jobs.models import load

            teacher, logits = load(assets["teacher"]), assets.get("logits")
            store = None if logits is None else logits.open(spec, data, teacher, device)
            self.distillation = spec.distillation.build(teacher, data, prepare, store)
        self.names = ("loss", "loss_hard", "loss_distillation") if self.distillation else ("loss",)

    def __call__(self, logits: torch.Tensor, x: torch.Tensor, y: torch.Tensor, at: At) -> torch.Tensor:
        """The terms, ``(len(names),)``; the first is what is minimised.

        Args:
            logits: the student's, ``(N, K)``.
            x: its input, ``(N, C, H, W)``.
            y: soft targets, ``(N, K)``.
            at: where the run is.
        """
        hard = self.loss(logits, y, self.weight)
        if self.distillation is None:
            return hard[None]
        soft, spec = self.distillation(logits, x, at), self.distillation.spec
        return torch.stack([spec.hard_weight * hard + spec.weight * soft, hard, soft])
